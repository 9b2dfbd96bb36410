use super::*;

#[test]
fn a_gap_in_the_numbers_is_noticed_a_repetition_is_not_one() {
    let mut live = Live::new(0);
    for number in [7, 8, 8, 9] {
        assert!(live.follow(number).is_ok(), "{number}");
    }
    assert!(live.follow(12).is_err());
    // After the greatest number comes 1.
    live.next = Some(u32::MAX);
    assert!(live.follow(u32::MAX).is_ok());
    assert!(live.follow(1).is_ok());
    assert!(live.follow(2).is_ok());
    assert!(live.follow(4).is_err());
}

#[test]
fn counts_follow_from_times() {
    assert_eq!(periods(KEEP_ALIVE_TIME, Duration::from_millis(500)), 10);
    assert_eq!(periods(KEEP_ALIVE_TIME, Duration::from_secs(3600)), 1);
    assert_eq!(periods(LIFETIME, Duration::from_nanos(1)), 60_000_000);
    assert_eq!(place_of(handle_of(0)), Some(0));
    assert_eq!(place_of(0), None);
}
