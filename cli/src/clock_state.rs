//! Asks the kernel how good its clock is: what NTP, PTP and their like tell it.

use tally_model::ClockState;

/// What the kernel lets its bound rise to while nobody keeps the clock right (`NTP_PHASE_LIMIT`, in µs): by 500 µs every second,
/// and at once when somebody sets the clock. At this value it counts as not synchronised (`STA_UNSYNC`).
///
/// The flag alone would not do: chronyd without `rtcsync` leaves it set, so that the kernel does not touch the hardware clock, and keeps the
/// bound true all the same.
const UNSYNCHRONISED_US: u64 = 16_000_000;

/// The state of the computer's clock (adjtimex(2)); unknown when the kernel does not answer, as under some sandboxes.
pub fn clock_state() -> ClockState {
    let Some(timex) = read() else { return ClockState::Unknown };
    state_of(timex.maxerror)
}

/// From the kernel's `maxerror`, in µs.
fn state_of(maxerror: libc::c_long) -> ClockState {
    match u64::try_from(maxerror) {
        Ok(error_us) if error_us < UNSYNCHRONISED_US => ClockState::Synchronised { error_us },
        Ok(_) => ClockState::FreeRunning,
        Err(_) => ClockState::Unknown,
    }
}

/// What the kernel says of its clock.
fn read() -> Option<libc::timex> {
    // SAFETY: `timex` is plain integers, of which zeros are a value. With `modes` 0 the kernel changes nothing and needs no right for it; it
    // writes into the structure it is given and nowhere else.
    #[allow(unsafe_code)]
    let (timex, answer) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let answer = libc::adjtimex(&raw mut timex);
        (timex, answer)
    };
    // Anything else is one of the clock's states, of which "not synchronised" is one.
    (answer != -1).then_some(timex)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_bound_says_whether_somebody_keeps_the_clock() {
        assert_eq!(state_of(0), ClockState::Synchronised { error_us: 0 });
        assert_eq!(state_of(15_999_999), ClockState::Synchronised { error_us: 15_999_999 });
        assert_eq!(state_of(16_000_000), ClockState::FreeRunning);
        assert_eq!(state_of(-1), ClockState::Unknown);
    }

    #[test]
    fn the_kernel_answers_as_its_manual_says() {
        let Some(timex) = read() else { return assert_eq!(clock_state(), ClockState::Unknown) };
        assert_eq!(timex.modes, 0, "nothing was changed");
        assert!((0..=16_000_000).contains(&timex.maxerror), "{}", timex.maxerror);
    }
}
