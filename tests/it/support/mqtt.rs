//! A real MQTT 5 client: a device or an observer.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{soon, unique};

/// Messages an observer may leave unread.
const INBOX: usize = 100_000;

/// A connection to a broker; closed with the value.
pub struct Mqtt {
    client: AsyncClient,
    inbox: mpsc::Receiver<(String, Vec<u8>)>,
    task: JoinHandle<()>,
}

impl Mqtt {
    /// Connects anonymously to a broker on the loopback.
    pub async fn connect(port: u16) -> Self {
        Self::connect_as(port, None).await.expect("the broker lets us in")
    }

    /// Connects with a user name and a password, under a unique client id.
    pub async fn connect_as(port: u16, login: Option<(&str, &str)>) -> Result<Self, String> {
        Self::connect_with(port, &unique("test"), login).await
    }

    /// Connects under a given client id.
    pub async fn connect_with(port: u16, client_id: &str, login: Option<(&str, &str)>) -> Result<Self, String> {
        let mut options = MqttOptions::new(client_id, ("127.0.0.1", port));
        options.set_keep_alive(30).set_max_packet_size(Some(4 << 20)).set_outgoing_inflight_upper_limit(100);
        if let Some((username, password)) = login {
            options.set_credentials(username, password.to_owned());
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(1_000).build();
        let (sender, inbox) = mpsc::channel(INBOX);
        let connected = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        soon("CONNACK", connected).await?;
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                        sender.try_send((topic, publish.payload.to_vec())).expect("a test reads its inbox");
                    }
                    Ok(_) => {}
                    // The next poll reconnects, which tests of outages need.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Ok(Self { client, inbox, task })
    }

    /// Publishes with QoS 1 and waits for the broker's PUBACK; an error is the broker's refusal.
    pub async fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Result<(), String> {
        self.send(topic, payload, false).await
    }

    /// As [`Mqtt::publish`], retained.
    pub async fn publish_retained(&self, topic: &str, payload: impl AsRef<[u8]>) -> Result<(), String> {
        self.send(topic, payload, true).await
    }

    async fn send(&self, topic: &str, payload: impl AsRef<[u8]>, retain: bool) -> Result<(), String> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        let payload = payload.as_ref().to_vec();
        let notice = self.client.publish_tracked(topic, payload, options).await.map_err(|e| e.to_string())?;
        soon("PUBACK", notice.wait_completion_async()).await.map_err(|e| e.to_string())
    }

    /// Subscribes with QoS 1; an error is the broker's refusal.
    pub async fn subscribe(&self, filter: &str) -> Result<(), String> {
        let notice = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await.map_err(|e| e.to_string())?;
        soon("SUBACK", notice.wait_completion_async()).await.map_err(|e| e.to_string())
    }

    /// The next message of the subscriptions.
    pub async fn next(&mut self) -> (String, Vec<u8>) {
        soon("a message", self.inbox.recv()).await.expect("the client's task runs")
    }

    /// A message that has already arrived.
    pub fn try_next(&mut self) -> Option<(String, Vec<u8>)> {
        self.inbox.try_recv().ok()
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.task.abort();
    }
}
