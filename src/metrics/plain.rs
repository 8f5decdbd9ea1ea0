//! The text format of Prometheus (0.0.4), from OpenMetrics. Samples are the same in both. In the older format the name of a
//! counter or of an info includes its suffix also in HELP and TYPE, and an info is a gauge.

/// The text in the older format.
pub(super) fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 50);
    let mut help = None;
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|comment| comment.split_once(' '));
        match comment {
            Some(("HELP", rest)) => help = rest.split_once(' '),
            Some(("TYPE", rest)) => {
                let Some((name, kind)) = rest.split_once(' ') else { continue };
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some((_, help)) = help.take() {
                    text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
                }
                text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            // Units are part of the names here, and there is no end.
            _ if line.starts_with('#') => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_include_their_suffix() {
        let openmetrics = "# HELP c Events, by kind.\n# TYPE c counter\nc_total{kind=\"a\"} 1\n# HELP b Build.\n# TYPE b info\n\
                           b_info{v=\"1\"} 1\n# TYPE g gauge\n# UNIT g seconds\ng 0.5\n# EOF\n";
        let expected = "# HELP c_total Events, by kind.\n# TYPE c_total counter\nc_total{kind=\"a\"} 1\n# HELP b_info Build.\n\
                        # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# TYPE g gauge\ng 0.5\n";
        assert_eq!(plain(openmetrics), expected);
    }
}
