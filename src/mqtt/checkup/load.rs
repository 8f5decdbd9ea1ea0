//! What the broker publishes about itself below `$SYS/broker/`, where it does.

use std::collections::BTreeMap;
use std::time::Duration;

use rumqttc::QoS;

use super::fault::RequestError;
use super::session::Connection;

/// Brokers retain these, so they come at once.
const WAIT: Duration = Duration::from_millis(300);
/// Most bytes of a value that are read.
const MAX_VALUE: usize = 64;
const PREFIX: &str = "$SYS/broker/";
/// Topics below the prefix that are read.
const TOPICS: [&str; 6] = [
    "version",
    "uptime",
    "clients/connected",
    "load/messages/received/1min",
    "load/messages/sent/1min",
    "publish/messages/dropped",
];

impl Connection {
    /// The values by topic, without the prefix. Empty for a broker that has none.
    pub async fn load(&mut self) -> Result<BTreeMap<&'static str, String>, RequestError> {
        self.received.clear();
        for name in TOPICS {
            self.client.try_subscribe(format!("{PREFIX}{name}"), QoS::AtMostOnce).map_err(RequestError::other)?;
        }
        let mut values = BTreeMap::new();
        self.find(WAIT, |publish| {
            let topic = std::str::from_utf8(&publish.topic).ok()?;
            let name = TOPICS.into_iter().find(|name| topic.strip_prefix(PREFIX) == Some(name))?;
            let value = String::from_utf8_lossy(&publish.payload[..publish.payload.len().min(MAX_VALUE)]);
            values.insert(name, value.trim().to_owned());
            (values.len() == TOPICS.len()).then_some(())
        })
        .await?;
        Ok(values)
    }
}
