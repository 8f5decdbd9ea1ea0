//! The program that is tested.

use std::collections::HashMap;
use std::process::{Command, Output};

use super::soon;

/// `smarthome` with these arguments and an empty environment.
pub fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smarthome"));
    command.args(arguments).env_clear();
    command
}

/// Runs `smarthome` with these arguments and this environment to its end, or fails the test.
pub async fn run(arguments: &[&str], variables: &HashMap<String, String>) -> Output {
    let mut command = tokio::process::Command::from(binary(arguments));
    command.envs(variables);
    soon("the program ends", command.kill_on_drop(true).output()).await.expect("the binary runs")
}
