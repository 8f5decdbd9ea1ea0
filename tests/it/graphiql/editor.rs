//! What a visitor does in GraphiQL: open it, choose a tab, type variables, run the operation.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::browser::Browser;

/// The key code of Enter.
const ENTER: u32 = 13;
/// The text of the answer.
pub(super) const RESPONSE: &str =
    "(document.querySelector('.graphiql-response .CodeMirror')?.CodeMirror.getValue() ?? '')";
/// The editors of the operation and of its variables.
const OPERATION: &str = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror";
pub(super) const VARIABLES: &str = "document.querySelector('.graphiql-editor-tool .CodeMirror').CodeMirror";

/// Opens the page, with the schema loaded: the editor can complete fields.
pub(super) async fn open(addr: SocketAddr) -> Browser {
    let mut page = Browser::open(&format!("http://{addr}/graphiql")).await;
    page.until("!!document.querySelector('button[aria-label$=\"Documentation Explorer\"]')").await;
    page.until("!!document.querySelector('.graphiql-query-editor .CodeMirror')").await;
    page
}

/// Opens the tab of an example.
pub(super) async fn choose(page: &mut Browser, tab: &str) {
    let find = format!("[...document.querySelectorAll('.graphiql-tab-button')].find((t) => t.textContent === '{tab}')");
    page.eval(&format!("{find}.click()")).await;
    page.until(&format!("{OPERATION}.getValue().includes(' {tab}(')")).await;
}

pub(super) async fn set_variables(page: &mut Browser, variables: &Value) {
    page.eval(&format!("{VARIABLES}.setValue({})", json!(variables.to_string()))).await;
}

/// Runs the operation of the open tab, unless one is running.
pub(super) async fn run(page: &mut Browser) {
    if page.eval("!document.querySelector('.graphiql-execute-button-stop, .graphiql-spinner')").await == json!(true) {
        page.eval(&format!("{OPERATION}.focus()")).await;
        page.press_ctrl("Enter", ENTER).await;
    }
}

/// Runs the operation of the open tab until the answer has a text. For a moment after a tab was opened, the page runs
/// the operation of the previous one.
pub(super) async fn run_until(page: &mut Browser, text: &str) {
    let shows = format!("{RESPONSE}.includes({})", json!(text));
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while page.eval(&shows).await != json!(true) {
        assert!(tokio::time::Instant::now() < deadline, "no {text} in {}", page.eval(RESPONSE).await);
        run(page).await;
        page.eval("new Promise((next) => { requestAnimationFrame(next); })").await;
    }
}
