//! The packets committed in the present broker session.
//!
//! After a crash the broker sends every message again that it has no acknowledgement for, with the same packet id
//! and the DUP flag. A message whose packet id and digest are recorded here is committed already. The digest
//! guards against a broker that was restored from an older snapshot and uses packet ids again.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use diesel::QueryResult;

use super::{session_store, store};
use crate::db;
use crate::ids::DeviceId;
use crate::mqtt::{Packet, SessionLoss};

/// One slot for every `u16`, although MQTT uses no packet id 0. A new message under an id makes the older one obsolete.
const PACKET_IDS: usize = 65_536;

/// Obsolete packets that are worth a statement to delete.
const MIN_PRUNED: usize = 512;

/// A copy in memory of the session's rows in `committed_packets`.
pub(super) struct CommittedPackets {
    client_id: String,
    /// The digest of the latest message under each packet id.
    digests: Box<[Option<i64>]>,
    /// Ids of the table's rows that are known, oldest first, with the number of packets in each.
    rows: VecDeque<(i64, usize)>,
    n_packets: usize,
    /// Rows up to this id are deleted.
    deleted_up_to: i64,
    /// Whether the broker has kept a session before: one that never was can't be lost.
    existed: bool,
}

impl CommittedPackets {
    pub(super) fn new(client_id: &str, existed: bool) -> Self {
        Self {
            client_id: client_id.to_owned(),
            digests: vec![None; PACKET_IDS].into(),
            rows: VecDeque::new(),
            n_packets: 0,
            deleted_up_to: 0,
            existed,
        }
    }

    /// Loads what was committed before this process started.
    pub(super) async fn load(
        conn: &mut db::Connection,
        client_id: &str,
        group_prefix: Option<&str>,
    ) -> QueryResult<Self> {
        let mut packets = Self::new(client_id, store::had_session(conn, client_id, group_prefix).await?);
        for (row, ids, digests) in store::load_packets(conn, client_id).await? {
            packets.rows.push_back((row, ids.len()));
            packets.n_packets += ids.len();
            for (id, digest) in ids.into_iter().zip(digests) {
                if let Ok(id) = u16::try_from(id) {
                    packets.digests[usize::from(id)] = Some(digest);
                }
            }
        }
        Ok(packets)
    }

    /// The MQTT client id of the session.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether this packet repeats one that is committed or in the present batch.
    pub(super) fn is_repeat(&self, packet: Packet) -> bool {
        packet.is_redelivery && self.digests[usize::from(packet.id)] == Some(packet.message_digest)
    }

    /// Adds a packet of the batch that is committed next.
    pub(super) fn insert(&mut self, packet: Packet) {
        self.digests[usize::from(packet.id)] = Some(packet.message_digest);
    }

    /// The broker lost the session: nothing it sends from now on repeats anything.
    pub(super) fn clear(&mut self) {
        self.digests.fill(None);
    }

    /// Records a batch's packets in the batch's transaction and returns the id of their row, if there is one. The packet of
    /// a deleted device is left out, because its message is classified again.
    ///
    /// All statements are sent at the first poll, in this order.
    pub(super) async fn record(
        &self,
        conn: &db::Connection,
        lost: Option<SessionLoss>,
        outboxes: &[&'static str],
        packets: &[(Packet, Option<DeviceId>)],
    ) -> QueryResult<Option<i64>> {
        let (replaced, pruned, row) = futures_util::join!(
            async {
                match lost {
                    Some(loss) => self.replace(conn, loss, outboxes).await,
                    None => Ok(()),
                }
            },
            async {
                match self.obsolete() {
                    Some(rows) => store::delete_obsolete_packets(conn, &self.client_id, rows).await,
                    None => Ok(()),
                }
            },
            async {
                match packets {
                    [] => Ok(None),
                    packets => store::insert_packets(conn, &self.client_id, packets).await,
                }
            },
        );
        replaced.and(pruned).and(row)
    }

    /// Deletes the lost session's packets, and records for the outboxes what may be lost with it.
    async fn replace(&self, conn: &db::Connection, loss: SessionLoss, outboxes: &[&'static str]) -> QueryResult<()> {
        // With a session that never was, nothing can have been lost.
        let outboxes = if self.existed { outboxes } else { &[] };
        let (deleted, begun, is_new, noted) = futures_util::join!(
            store::delete_packets(conn, &self.client_id),
            store::upsert_session(conn, &self.client_id),
            session_store::session_is_new(conn, &self.client_id),
            store::upsert_losses(conn, &self.client_id, outboxes, loss.before),
        );
        deleted.and(begun).and(is_new).and(noted)
    }

    /// The batch is committed, with `n_packets` packets in `row`.
    pub(super) fn committed(&mut self, replaced: bool, row: Option<i64>, n_packets: usize) {
        if replaced {
            self.existed = true;
            self.rows.clear();
            self.n_packets = 0;
        }
        let Some(row) = row else { return };
        if let Some(obsolete) = self.obsolete() {
            self.deleted_up_to = *obsolete.end();
            while let Some((_, n)) = self.rows.pop_front_if(|(row, _)| obsolete.contains(row)) {
                self.n_packets -= n;
            }
        }
        self.rows.push_back((row, n_packets));
        self.n_packets += n_packets;
    }

    /// The rows of obsolete packets, once there are enough of them: not with every small batch, and never so many that the
    /// batch takes longer. With those between them that this process does not know: they are too old to have been loaded, or
    /// their commit succeeded and its answer was lost.
    pub(super) fn obsolete(&self) -> Option<RangeInclusive<i64>> {
        let mut surplus = self.n_packets.checked_sub(PACKET_IDS)?;
        if surplus < MIN_PRUNED {
            return None;
        }
        let mut last = None;
        for (row, n) in &self.rows {
            match surplus.checked_sub(*n) {
                Some(rest) => (surplus, last) = (rest, Some(*row)),
                None => break,
            }
        }
        last.map(|last| self.deleted_up_to + 1..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits one batch, and returns the rows that its transaction deletes.
    fn commit(packets: &mut CommittedPackets, row: i64, n_packets: usize) -> Option<RangeInclusive<i64>> {
        let obsolete = packets.obsolete();
        packets.committed(false, Some(row), n_packets);
        obsolete
    }

    #[test]
    fn the_ranges_to_delete_leave_no_row_out() {
        let mut packets = CommittedPackets::new("server", true);
        // Every second row is unknown: its commit succeeded, and its answer was lost.
        for row in 0..66 {
            assert_eq!(commit(&mut packets, 100 + 2 * row, 1_000), None);
        }
        assert_eq!(commit(&mut packets, 232, 700), None, "464 are not enough");
        assert_eq!(commit(&mut packets, 234, 1_000), Some(1..=100));
        assert_eq!(commit(&mut packets, 236, 1_000), Some(101..=102));
    }

    #[test]
    fn a_lost_session_leaves_nothing_to_delete() {
        let mut packets = CommittedPackets::new("server", true);
        assert_eq!(commit(&mut packets, 1, PACKET_IDS + MIN_PRUNED), None);
        assert_eq!(packets.obsolete(), None, "all of the row's ids are not used again");
        assert_eq!(commit(&mut packets, 2, MIN_PRUNED), None);
        packets.committed(true, Some(3), 1);
        assert_eq!(packets.obsolete(), None);
    }
}
