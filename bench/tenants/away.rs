//! A device that is away when its owner sends a command, and comes back: it must hear it then, whoever else subscribes
//! to what at the broker.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::account::Login;
use super::device::enter;
use super::http::Client;
use super::world::World;
use crate::codec::{self, Frame, PUBLISH, Packets, Publish};
use crate::server::PREFIX;

const AWAY: Duration = Duration::from_secs(2);
/// The command has failed by then.
const PATIENCE: Duration = Duration::from_secs(12);
const SEND: &str = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"REPORT\", payload: {}, \
                    timeoutSeconds: 10, expiresInSeconds: 120}) { id } }";

/// From the return of the device, which says that it is online, to the command. `None` if it is never heard.
pub(super) async fn return_and_hear(world: &World, mut owner: Client, login: &Login) -> Result<Option<Duration>> {
    let sent = owner.ask(SEND, &json!({"d": login.id})).await;
    sleep(AWAY).await;
    let mut stream = enter(world.mqtt_port, login, PATIENCE).await?;
    let back = Instant::now();
    let topics = format!("{PREFIX}/{}/{}", login.home_key(), login.key);
    stream.write_all(&codec::subscribe_packet(&format!("{topics}/commands"))).await?;
    stream.write_all(&Frame::new(&format!("{topics}/status"), br#"{"online":true}"#).with_id(1)).await?;
    let Ok(sent) = sent else { return Ok(None) };
    let heard = timeout(PATIENCE, hear(&mut stream, &topics, &sent["sendCommand"]["id"])).await;
    Ok(heard.is_ok_and(|heard| heard.is_ok()).then(|| back.elapsed()))
}

/// Until the command arrives, and is acknowledged.
async fn hear(stream: &mut TcpStream, topics: &str, id: &Value) -> Result<()> {
    let (mut packets, mut bytes) = (Packets::default(), vec![0; 16 << 10]);
    loop {
        let n = stream.read(&mut bytes).await?;
        anyhow::ensure!(n > 0, "the broker closed the connection");
        packets.feed(&bytes[..n]);
        while let Some((kind, body)) = packets.next() {
            let Some(publish) = (kind == PUBLISH).then(|| Publish::parse(body)).flatten() else { continue };
            let command: Value = serde_json::from_slice(publish.payload)?;
            if command["commandId"] == *id {
                let answer = json!({"commandId": id, "status": "SUCCEEDED"}).to_string();
                let mut out = codec::puback(publish.packet_id).to_vec();
                out.extend(Frame::new(&format!("{topics}/ack"), answer.as_bytes()).with_id(2));
                return Ok(stream.write_all(&out).await?);
            }
        }
    }
}
