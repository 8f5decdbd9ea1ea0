//! PostgreSQL: connections, the API's pool, migrations, transactions, statements in `.sql` files.

mod clock;
mod connection;
mod copy;
mod data_folder;
mod errors;
mod frozen;
mod json;
pub mod locks;
mod memory_budget;
mod migrations;
mod pool;
mod reconnecting;
pub mod schema;
mod spawn;
mod statement;
mod timeout;
mod tls;
mod transaction;

pub use clock::clock;
pub use connection::{ConnectError, Connection, connect};
pub use copy::{CopyConnection, CopyError, Rows};
pub use data_folder::data_folder;
pub use errors::{is_unique_violation, violated_foreign_key, warn_about_message_language};
pub use frozen::Frozen;
pub use json::JsonText;
pub use memory_budget::{MAX_OPERATION_BYTES, MemoryBudget, MemorySize, collect_bounded};
pub use migrations::{MIGRATIONS, Migrated, MigrationError, has_pending, migrate, newer, pending, revert_to};
pub use pool::{Pool, PoolMetrics, PooledConnection, STATEMENT_TIMEOUT, is_reachable, pool};
pub use reconnecting::ReconnectingConnection;
pub use spawn::spawn_and_join;
pub use statement::{Parameters, Template, numbered, parameters, statement};
pub use timeout::with_timeout;
pub use transaction::{Transaction, run_to_completion, transaction};
