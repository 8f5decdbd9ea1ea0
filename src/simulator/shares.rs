//! Lists of shares on the command line, such as `loss,dup=0.1`.

/// A name of a list, its default and its largest value.
pub(super) struct Share<'a> {
    pub(super) name: &'static str,
    pub(super) value: &'a mut f64,
    pub(super) default: f64,
    pub(super) max: f64,
}

impl<'a> Share<'a> {
    pub(super) fn new(name: &'static str, value: &'a mut f64, default: f64, max: f64) -> Self {
        Self { name, value, default, max }
    }
}

/// Reads names separated by commas, each with an optional `=value`. A name outside the list is an error.
pub(super) fn parse(text: &str, shares: &mut [Share<'_>]) -> Result<(), String> {
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, value) = item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
        let names = shares.iter().map(|share| share.name).collect::<Vec<_>>().join(", ");
        let Some(share) = shares.iter_mut().find(|share| share.name == name) else {
            return Err(format!("unknown name {name:?}: expected {names}"));
        };
        let Share { default, max, .. } = *share;
        *share.value = match value {
            None => default,
            Some(value) => value
                .parse()
                .ok()
                .filter(|value| (0.0..=max).contains(value))
                .ok_or_else(|| format!("{name}: expected a number from 0 to {max}"))?,
        };
    }
    Ok(())
}
