//! The closed, numbered list of refusals. Numbers never change their meaning and are checked in rising order: what was
//! already done first, a broken ledger last, because a retry must never do anything twice. The table in
//! `docs/formats/refusals.md` is compared with this list by a test.

macro_rules! refusals {
    ($($number:literal $name:ident { $($field:ident: $kind:ty),* } $means:literal $text:literal;)*) => {
        /// Why a contract says no. Only the number is recorded in the outcome; the text is for people.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[allow(missing_docs)] // the fields are what the text shows
        pub enum Refusal {
            $(#[doc = $means] #[error($text)] $name { $($field: $kind),* },)*
        }

        impl Refusal {
            /// Every number, in order of precedence.
            pub const ALL: &'static [u16] = &[$($number),*];

            /// The number recorded in the outcome.
            #[must_use]
            pub const fn number(&self) -> u16 {
                match self { $(Self::$name { .. } => $number,)* }
            }

            /// The variant's name: the metric label.
            #[must_use]
            pub const fn name(number: u16) -> &'static str {
                match number { $($number => stringify!($name),)* _ => "" }
            }

            /// Whether a number says that not the input but the state is at fault: the node should stop and rebuild it.
            #[must_use]
            pub const fn is_broken_state(number: u16) -> bool {
                matches!(number, 191 | 192)
            }

            /// What a number means; the empty text for numbers that are none.
            #[must_use]
            pub const fn describe(number: u16) -> &'static str {
                match number { $($number => $means,)* _ => "" }
            }
        }
    };
}

refusals! {
    // 10x: already done, or before its time.
    101 TriggerReplayed { agent: String, number: u64, last: u64 }
        "the agent's trigger number was already used"
        "trigger number {number} of `{agent}` was already used (the last one was {last}); numbers only rise";
    102 ReadingsReused { device: String, trigger: String, last: u64, used: u64 }
        "the readings behind the trigger were already used for the same device and trigger"
        "readings up to {last} of `{device}` were already used for `{trigger}` (up to {used}); a trigger needs newer readings";
    103 GenesisOutOfPlace { entry: u64, signer: String }
        "genesis is entry 0, sealed by the ledger, exactly once; nothing comes before it"
        "entry {entry} by `{signer}`: the genesis must be entry 0, sealed by the ledger's own key, and nothing else comes before it";
    104 AnchorReplayed { device: String, number: u64, last: u64 }
        "the anchor's number was already given for the device"
        "anchor {number} of `{device}` was already given (the last one was {last}); a new vault says so in anchor 1";
    105 ReadingsCovered { device: String, first: u64, covered: u64 }
        "the readings are covered by an anchor already"
        "readings of `{device}` are covered up to {covered}; an anchor from {first} on would cover some twice";
    106 PermitBurnt { permit: u64, how: String }
        "the permit was already used, revoked, or ran out"
        "permit {permit} is burnt already ({how}); request a new one";

    // 11x: time.
    111 FromTheFuture { at: String, now: String }
        "made more than 24 hours after block time"
        "made at {at}, more than 24 h after block time {now}; set the signer's clock";

    // 12x: who.
    121 UnknownSigner { signer: String }
        "the signer is not registered"
        "`{signer}` is not registered on this ledger; an admin or its firm registers it with `registry/register-party`";
    122 SignerRevoked { signer: String }
        "the signer's registration is revoked"
        "`{signer}` was revoked and may not sign any more";
    123 WrongKey { signer: String, found: String, registered: String }
        "sealed with another key than the registered one"
        "`{signer}` sealed with key {found}, registered is {registered}";
    124 Quarantined { what: String, by: String, reason: String }
        "the device or agent is in quarantine"
        "{what} is in quarantine, put there by `{by}`: {reason}; who put it there lifts it with `access/lift`";
    125 PartyBarred { party: String, owner: String }
        "the owner of the device barred the party"
        "`{owner}` barred `{party}` from its devices; the owner lifts it with `access/lift`";

    // 13x: about what.
    131 UnknownDevice { device: String }
        "the device is not registered"
        "device `{device}` is not registered; its owner registers it with `registry/register-device`";
    132 NotTheAgent { signer: String, device: String, agent: String }
        "the signer is not the device's agent"
        "`{signer}` may not speak for `{device}`; its agent is `{agent}`";
    133 RuleNotRegistered { device: String, trigger: String, rule: String }
        "the owner of the device has not registered this version of the rule"
        "rule {rule} for trigger `{trigger}` of `{device}` is not registered; the device's owner registers it with `registry/register-rule`";
    134 NotAsRuled { trigger: String, found: String, ruled: String }
        "the trigger asks for another call than its rule says"
        "trigger `{trigger}` asks for {found}, its rule says {ruled}";
    135 UnknownContract { contract: String }
        "no such contract is deployed"
        "contract `{contract}` is not deployed; an admin deploys it with `registry/deploy-contract`";
    136 UnknownAction { contract: String, action: String, known: String }
        "the contract has no such action"
        "contract `{contract}` has no action `{action}`; it has: {known}";
    137 UnknownAgreement { agreement: String }
        "no such agreement of this contract"
        "there is no agreement `{agreement}` of this contract";
    138 UnknownParty { party: String, needs: &'static str }
        "a party that the call names is not registered, is revoked or is of the wrong kind"
        "`{party}` is not {needs} registered on this ledger";
    139 UnknownAccount { account: String }
        "an account that the call needs is not open"
        "account `{account}` is not open; its owner opens it with `accounts/open`";
    140 UnknownPermit { what: String }
        "there is no such permit, policy, bar or quarantine"
        "there is no {what}";

    // 14x: form.
    141 MissingArgument { argument: String }
        "an argument is missing"
        "argument `{argument}` is missing";
    142 BadArgument { argument: String, found: String, expected: String }
        "an argument has the wrong type or is out of range"
        "argument `{argument}` is {found}; expected is {expected}";
    143 UnknownArgument { argument: String, known: String }
        "an argument that the action does not have"
        "argument `{argument}` is unknown here; known are: {known}";
    144 ContractFaulty { faults: usize, first: String }
        "the contract text has faults"
        "the contract has {faults} fault(s), first: {first}; `tally contract check` shows all";

    // 15x: may.
    151 NotAllowed { signer: String, what: String, needs: String }
        "the signer may not do this"
        "`{signer}` may not {what}; this needs {needs}";
    152 WrongRole { signer: String, action: String, role: String, holder: String }
        "the signer does not hold the role that the action needs"
        "`{signer}` may not `{action}`: this needs the {role}, which is `{holder}`";
    153 NoPolicy { signer: String, right: &'static str, device: String, point: String, owner: String }
        "no policy of the device's owner allows this to the signer"
        "no policy of `{owner}` lets `{signer}` {right} `{point}` of `{device}`; the owner seals one with `access/policy`";
    154 OutOfBounds { point: String, found: String, allowed: String, policy: String }
        "the value is outside of what the policy allows"
        "{found} for `{point}` is outside of {allowed}, which policy `{policy}` allows";
    155 OutOfHours { policy: String, at: String }
        "outside of the times that the policy allows"
        "policy `{policy}` allows nothing at {at}: outside of its hours, days or dates";
    156 TooMany { what: String, limit: u64 }
        "too many permits within the policy's period, open at a time, or policies of a device"
        "too many {what}: {limit} are allowed";

    157 GradeUnfounded { device: String }
        "the trigger says device-sealed, but no key of the device is registered"
        "the trigger says that `{device}` sealed for itself, but no party `{device}` of kind device is registered, or it is revoked";
    158 GradeTooLow { contract: String, found: &'static str, needs: &'static str }
        "the contract demands a higher grade of evidence"
        "contract `{contract}` demands {needs} evidence, the trigger is {found}; the device's mapping says how it is read";

    159 KeyNotHeld { party: String, key: String }
        "nobody proves to hold the new key"
        "the proof of key {key} for `{party}` does not hold: the new key must sign ledger, party and itself (`tally registry rotate` does)";

    // 16x: exists.
    161 AlreadyRegistered { what: String }
        "it is already registered, open or deployed"
        "{what} is already there";
    162 AlreadyOpen { agreement: String, key: String }
        "an agreement for the same thing has not ended yet"
        "agreement `{agreement}` for {key} has not ended yet";

    163 NotOffered { device: String, to: String }
        "the device is not offered, or no more"
        "`{device}` is not offered to {to}, or the offer ran out; its owner offers it with `registry/offer-transfer`";
    164 NoRecovery { party: String }
        "the organisation named nobody who could recover its key"
        "`{party}` has named nobody who recovers its key; it does so with `registry/set-recovery`, while it has one";

    // 17x: state.
    170 AgreementRetired { agreement: String }
        "the agreement has ended, and left the state"
        "`{agreement}` has ended and is retired: nothing can happen to it any more; `tally order {agreement}` shows what it was";
    171 AgreementEnded { agreement: String, state: String }
        "the agreement has ended"
        "`{agreement}` has ended ({state})";
    172 WrongState { agreement: String, state: String, action: String, allowed: String }
        "the action is not possible in the agreement's state"
        "`{agreement}` is {state}; `{action}` is not possible there, possible are: {allowed}";
    173 GuardRefused { subject: String, action: String, guard: String }
        "a condition of the contract does not hold"
        "`{subject}`: `{action}` needs {guard}, which does not hold";
    174 NoStandingTerms { contract: String, device: String }
        "the owner of the device has not agreed to standing terms"
        "there are no standing terms of `{contract}` for `{device}`; its owner seals them with `{contract}/standing`";
    175 TermNotDue { agreement: String, due: String, found: String }
        "the term is not running or not due yet"
        "`{agreement}` has no term due at {due}; found: {found}";
    176 NobodyFits { agreement: String, role: String }
        "nobody fits the role"
        "`{agreement}`: nobody fits as {role}";
    177 AnchorSkips { device: String, number: u64, expected: u64 }
        "the anchor's number does not follow the last one, and no gap is declared"
        "anchor {number} of `{device}` does not follow: expected is {expected}, or a declared gap over exactly the missing readings";
    178 AnchorUnchained { device: String, number: u64 }
        "the anchor does not name the digest of the device's last one"
        "anchor {number} of `{device}` does not name the digest of the one before; its agent or its data are not the ones of before";
    179 ReadingsMissing { device: String, from: u64, to: u64 }
        "reading numbers are missing before the anchor, and no gap declares exactly them"
        "readings {from} to {to} of `{device}` are in no anchor; the agent must declare them as a gap";

    // 18x: money and arithmetic.
    181 Arithmetic { what: String, reason: String }
        "an amount or expression overflows or cannot be computed"
        "{what}: {reason}";
    182 BadAmount { amount: i64 }
        "an amount of money must be positive"
        "{amount} is no amount of money; amounts are positive, in minor units";
    183 InsufficientFunds { account: String, balance: i64, needed: i64 }
        "there is not enough money in the account"
        "account `{account}` holds {balance}, {needed} are needed (minor units)";

    // 185 on: private fields.
    185 UnknownField { entry: u64, field: String }
        "the entry has no private field of this name"
        "entry {entry} has no private field `{field}`; `tally disclose {entry}` lists those it has";
    186 FieldPurged { entry: u64, field: String, purge: u64 }
        "the private field was purged already"
        "`{field}` of entry {entry} was purged already, by entry {purge}";

    // 19x: a broken ledger. Nothing was changed; the node should stop and reload from the log.
    191 StateCorrupt { key: String }
        "a stored value cannot be read"
        "the state under `{key}` cannot be read; rebuild the state from the log";
    192 TotalsBroken { currency: String, difference: i64 }
        "the input would have made or destroyed money"
        "carrying this out would have changed the total of {currency} by {difference}; this is a bug in the kernel, or a broken state";

    // 193 to 199: what is attested is not enough.
    193 EvidenceTooWeak { contract: String, found: String, needs: &'static str }
        "the contract demands better evidence than the trigger says of itself"
        "contract `{contract}` demands {needs} evidence, the trigger's is {found}; `checks:` in the mapping has it checked, its findings say what is wrong";
    194 NotEnoughAttest { contract: String, action: String, reason: String }
        "the devices that shall attest are too few, too many, spoken for elsewhere, or not independent"
        "`{action}` of contract `{contract}` needs several to attest: {reason}";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_have_words() {
        assert!(Refusal::ALL.is_sorted_by(|a, b| a < b));
        for number in Refusal::ALL {
            assert!(!Refusal::describe(*number).is_empty() && !Refusal::name(*number).is_empty());
        }
        assert_eq!(Refusal::describe(0), "");
    }

    #[test]
    fn texts_name_what_was_asked_and_found() {
        let refusal = Refusal::WrongKey { signer: "tina".into(), found: "ab".into(), registered: "cd".into() };
        assert_eq!(refusal.to_string(), "`tina` sealed with key ab, registered is cd");
        assert_eq!(refusal.number(), 123);
    }
}
