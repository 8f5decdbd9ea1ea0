//! What we have committed in the present broker session, by packet id.
//!
//! After a crash the broker sends again what it has no acknowledgement for, with the same packet
//! ids and DUP set. A message whose packet id and digest stand here is stored already. The digest
//! guards against a broker that came back from an older snapshot and uses ids anew.

use std::collections::VecDeque;

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::store;
use crate::ids::DeviceId;
use crate::mqtt::{Packet, SessionLoss};

/// Packet ids of the protocol: a new message under an id makes the older one obsolete.
const PACKET_IDS: usize = 65_536;

/// Packets forgotten in one go.
const PRUNED_AT_ONCE: usize = 512;

/// The session's committed deliveries, mirrored in `mqtt_deliveries`.
pub(super) struct Session {
    client_id: String,
    digests: Box<[Option<i64>]>,
    /// Rows of the table, oldest first, with the number of packets in each.
    rows: VecDeque<(i64, usize)>,
    n_packets: usize,
    /// Whether the broker ever kept a session for us: one that never was can't be lost.
    has_been: bool,
}

impl Session {
    /// A new one.
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self {
            client_id: "test".to_owned(),
            digests: vec![None; PACKET_IDS].into(),
            rows: VecDeque::new(),
            n_packets: 0,
            has_been: false,
        }
    }

    /// What an earlier life of this client committed.
    pub(super) async fn recall(conn: &mut AsyncPgConnection, client_id: &str) -> QueryResult<Self> {
        let mut session = Self {
            client_id: client_id.to_owned(),
            digests: vec![None; PACKET_IDS].into(),
            rows: VecDeque::new(),
            n_packets: 0,
            has_been: store::has_session(conn, client_id).await?,
        };
        for (row, ids, digests) in store::recall(conn, client_id).await? {
            session.rows.push_back((row, ids.len()));
            session.n_packets += ids.len();
            for (id, digest) in ids.into_iter().zip(digests) {
                if let Ok(id) = u16::try_from(id) {
                    session.digests[usize::from(id)] = Some(digest);
                }
            }
        }
        Ok(session)
    }

    /// Whether this delivery repeats one that is committed or on its way.
    pub(super) fn repeats(&self, packet: Packet) -> bool {
        packet.is_redelivery && self.digests[usize::from(packet.id)] == Some(packet.message_digest)
    }

    /// Takes a delivery that will be committed before the next one is asked about.
    pub(super) fn take(&mut self, packet: Packet) {
        self.digests[usize::from(packet.id)] = Some(packet.message_digest);
    }

    /// The broker has lost the session: nothing it sends from now on repeats anything.
    pub(super) fn forget(&mut self) {
        self.digests.fill(None);
    }

    /// Writes a batch's deliveries in the batch's transaction and returns the row's id. A delivery whose
    /// device is no more is left out: it is not done with. Sent at the first poll, so that it can be one of
    /// several in a round trip.
    pub(super) async fn remember(
        &self,
        conn: &AsyncPgConnection,
        lost: Option<SessionLoss>,
        outboxes: &[&'static str],
        packets: &[(Packet, Option<DeviceId>)],
    ) -> QueryResult<Option<i64>> {
        let (forgotten, pruned, row) = futures_util::join!(
            async {
                let Some(loss) = lost else { return Ok(()) };
                // A session that never was can't have been lost, nor anything with it.
                let outboxes = if self.has_been { outboxes } else { &[] };
                let (forgotten, kept, noted) = futures_util::join!(
                    store::forget(conn, &self.client_id),
                    store::keep_session(conn, &self.client_id),
                    store::note_loss(conn, &self.client_id, outboxes, loss.before),
                );
                forgotten.and(kept).and(noted)
            },
            async {
                match self.covered() {
                    Some(up_to) => store::prune(conn, &self.client_id, up_to).await,
                    None => Ok(()),
                }
            },
            async {
                if packets.is_empty() {
                    return Ok(None);
                }
                store::remember(conn, &self.client_id, packets).await.map(Some)
            },
        );
        forgotten.and(pruned).and(row)
    }

    /// The batch is committed.
    pub(super) fn committed(&mut self, forgot_first: bool, row: Option<i64>, n_packets: usize) {
        if forgot_first {
            self.has_been = true;
            self.rows.clear();
            self.n_packets = 0;
        }
        let Some(row) = row else { return };
        if let Some(up_to) = self.covered() {
            while let Some((_, n)) = self.rows.pop_front_if(|(row, _)| *row <= up_to) {
                self.n_packets -= n;
            }
        }
        self.rows.push_back((row, n_packets));
        self.n_packets += n_packets;
    }

    /// The newest row whose packets are all covered by later ones, once there is something to clear
    /// away: not at every batch, and never so much that the batch it rides in takes longer.
    fn covered(&self) -> Option<i64> {
        let mut surplus = self.n_packets.checked_sub(PACKET_IDS)?;
        if surplus < PRUNED_AT_ONCE {
            return None;
        }
        let mut covered = None;
        for (row, n) in &self.rows {
            match surplus.checked_sub(*n) {
                Some(rest) => (surplus, covered) = (rest, Some(*row)),
                None => break,
            }
        }
        covered
    }
}
