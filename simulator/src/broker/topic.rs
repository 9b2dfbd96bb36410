//! Topic names and filters (MQTT 3.1.1 §4.7). rumqttc's `matches` panics on a topic that begins with `é`.

/// Whether a message may be published to it.
pub(super) fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// Whether it may be subscribed to.
pub(super) fn is_filter(filter: &str) -> bool {
    let levels: Vec<_> = filter.split('/').collect();
    let whole = |level: &str| level.len() == 1 || !level.contains(['+', '#']);
    !filter.is_empty()
        && !filter.contains('\0')
        && levels.iter().all(|level| whole(level))
        && levels.iter().rev().skip(1).all(|level| *level != "#")
}

/// Whether a message to `topic` goes to those who subscribed to `filter`.
pub(super) fn matches(topic: &str, filter: &str) -> bool {
    // §4.7.2: what begins with `$` is the server's own.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (topic, filter, is_match) in [
            ("sport/tennis/player1", "sport/tennis/player1/#", true),
            ("sport/tennis/player1/ranking", "sport/tennis/player1/#", true),
            ("sport", "sport/#", true),
            ("sport/tennis/player1/ranking", "sport/tennis/+", false),
            ("sport", "sport/+", false),
            ("sport/", "sport/+", true),
            ("/finance", "+/+", true),
            ("/finance", "/+", true),
            ("/finance", "+", false),
            ("$SYS/monitor", "#", false),
            ("$SYS/monitor", "+/monitor", false),
            ("$SYS/monitor", "$SYS/#", true),
            ("élan/a", "+/a", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(topic, filter), is_match, "{topic} {filter}");
        }
        for good in ["#", "+", "/", "a/#", "+/tennis/#", "a//b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a/##", "#/a", "\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_name("a/b") && !is_name("") && !is_name("a/+") && !is_name("#"));
    }

    proptest! {
        #[test]
        fn a_topic_matches_itself_and_everything(topic in "[a-cé/]{1,12}") {
            prop_assert!(matches(&topic, &topic) && matches(&topic, "#"));
        }

        #[test]
        fn no_text_panics(topic in "\\PC{0,20}", filter in "\\PC{0,20}") {
            let _ = (matches(&topic, &filter), is_name(&topic), is_filter(&filter));
        }
    }
}
