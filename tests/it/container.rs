//! What the image and compose.yaml take for granted.

use std::path::Path;

use smarthome::settings::HttpSettings;

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file")
}

/// What stands behind the first of these words in the file.
fn after<'a>(text: &'a str, word: &str) -> &'a str {
    let rest = text.split_once(word).unwrap_or_else(|| panic!("no {word}")).1;
    rest.split(['\n', ',', '}']).next().expect("the rest of its line").trim()
}

#[test]
fn compose_trusts_the_gateway_by_which_a_proxy_on_its_host_comes() {
    let compose = shipped("docker/compose.yaml");
    let gateway = after(&compose, "gateway: ");
    assert_eq!(after(&compose, "TRUSTED_PROXIES: ${TRUSTED_PROXIES:-"), gateway);
    let http = HttpSettings::read(&|name: &str| (name == "TRUSTED_PROXIES").then(|| gateway.to_owned()));
    assert!(http.is_ok(), "{http:?}");
    // Elsewhere anybody could come by the gateway.
    assert!(compose.contains("ports: [\"127.0.0.1:4000:4000\"]"));
}
