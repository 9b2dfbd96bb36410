//! Questions of people who mean harm, and a process that dies in the middle of writing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/workload.rs"]
mod workload;

use common::{PATIENCE, START, TestClock, config, plant, until};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, Feed};
use tally_projection::ask::{self, Aggregate, Answer, Filter, Group, Page, Subject, Window};
use tally_projection::{Database, Fault, Height, Place, SqlLimits, guarded};
use workload::Workload;

/// A ledger with one round of everything, and its projection.
fn projected(dir: &Path) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let file = dir.join("projection.sqlite");
    runtime.block_on(async {
        let (plant, clock) = (plant(), TestClock::at(START));
        let mut config = config(&plant, &dir.join("data"));
        config.clock = clock.clone();
        let engine = Engine::open(config).unwrap();
        let feed = Feed::start(&engine, Place::Sqlite(file.clone())).unwrap();
        Workload::new(&plant, &engine, &clock).round(0).await;
        let head = engine.store().head().unwrap().checkpoint.height;
        until("the projection of every block", async || feed.questions().status().height == Some(head)).await;
        tokio::task::spawn_blocking(move || {
            feed.stop();
            engine.close();
        })
        .await
        .unwrap();
    });
    file
}

fn reader(file: &Path) -> Box<dyn Database> {
    Place::Sqlite(file.to_owned()).reader().unwrap()
}

/// What people write who know SQL, and what a program writes who knows nothing.
fn nasty() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "' OR '1'='1",
        "x'; DROP TABLE entries; --",
        "\" OR 1=1 --",
        "?1",
        "$1",
        "%",
        "_",
        "\\",
        "\0",
        "press-000' --",
        "') UNION SELECT * FROM accounts --",
        "{}",
        "confirmed",
        "press-000",
        "fixit",
    ];
    prop_oneof![proptest::sample::select(KNOWN).prop_map(str::to_owned), any::<String>(), "[-'\";?$%(){}a-z0-9]{0,40}"]
}

/// How many rows the same question has when it is answered by hand.
fn by_hand(all: &Answer, column: &str, wanted: &str) -> usize {
    let wanted = wanted.replace('\0', "\u{fffd}");
    all.rows.iter().filter(|row| row[column] == wanted.as_str()).count()
}

#[test]
fn filters_are_values_and_never_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = projected(dir.path());
    let page = Page { limit: 1000, cursor: None };
    let all = ask::agreements(&mut *reader(&file), &Filter::default(), &page).unwrap();
    let entries = ask::entries(&mut *reader(&file), &Filter::default(), &page).unwrap();
    assert!(all.rows.len() == 6 && entries.rows.len() > 20);
    proptest!(ProptestConfig::with_cases(200), |(text in nasty(), cursor in nasty(), limit in any::<usize>())| {
        let mut database = reader(&file);
        for column in ["device", "state", "contract"] {
            let mut filter = Filter::default();
            let field = match column {
                "device" => &mut filter.device,
                "state" => &mut filter.state,
                _ => &mut filter.contract,
            };
            *field = Some(text.clone());
            let found = ask::agreements(&mut *database, &filter, &page).unwrap();
            prop_assert_eq!(found.rows.len(), by_hand(&all, column, &text), "{} = {:?}", column, text);
        }
        let filter = Filter { kind: Some(text.clone()), ..Filter::default() };
        let found = ask::entries(&mut *database, &filter, &page).unwrap();
        prop_assert_eq!(found.rows.len(), by_hand(&entries, "kind", &text));
        for subject in [Subject::Device(text.clone()), Subject::Agreement(text.clone()), Subject::Party(text.clone())] {
            ask::history(&mut *database, &subject, &Filter::default(), &page).unwrap();
        }
        let asked = Aggregate {
            by: Group::parse(&text).into_iter().collect(),
            filter: Filter { party: Some(text.clone()), ..Filter::default() },
            window: Window::Closed,
            success: vec![text.clone()],
        };
        ask::aggregate(&mut *database, &asked).unwrap();
        // Cursors and limits are the caller's too.
        for cursor in [cursor.clone(), format!("e{cursor}"), format!("e1.{cursor}"), format!("a0.{cursor}")] {
            let page = Page { limit, cursor: Some(cursor) };
            for answer in [
                ask::entries(&mut *database, &Filter::default(), &page),
                ask::agreements(&mut *database, &Filter::default(), &page),
            ] {
                prop_assert!(matches!(answer, Ok(_) | Err(Fault::Question { .. })), "{answer:?}");
            }
        }
    });
    let again = ask::entries(&mut *reader(&file), &Filter::default(), &page).unwrap();
    assert_eq!(again, entries);
}

#[test]
fn sql_reads_and_does_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = projected(dir.path());
    let before = std::fs::read(&file).unwrap();
    let ask = |sql: &str, limits: SqlLimits| guarded(&file, sql, limits);
    let usual = SqlLimits::default();
    // The two questions of the manual.
    let orders = ask(
        "SELECT parties ->> 'maintainer' AS maintainer, fault, COUNT(*) AS orders FROM view_agreements
         WHERE opened_at >= strftime('%Y-%m-%dT%H:%M:%SZ', '2026-12-01', '-3 months') GROUP BY 1, 2 ORDER BY 3 DESC",
        usual,
    )
    .unwrap();
    assert_eq!(orders.columns, ["maintainer", "fault", "orders"]);
    assert_eq!(orders.rows.len(), 6);
    let rate = ask(
        "SELECT 1.0 * SUM(state = 'confirmed') / COUNT(*) AS success_rate FROM view_agreements
         WHERE closed_at >= strftime('%Y-%m-%dT%H:%M:%SZ', '2026-11-01', '-2 months')",
        usual,
    );
    assert_eq!(rate.unwrap().rows, [[tally_projection::Value::Real(0.5)]]);
    for (name, _) in tally_projection::VIEWS {
        let answer = ask(&format!("SELECT * FROM {name}"), usual).unwrap();
        assert!(!answer.columns.is_empty() && answer.at.height.is_some(), "{name}");
    }
    for (sql, word) in [
        ("DELETE FROM entries", "SELECT"),
        ("UPDATE agreements SET state = 'paid'", "SELECT"),
        ("INSERT INTO pending VALUES ('x')", "SELECT"),
        ("DROP VIEW view_entries", "SELECT"),
        ("CREATE TEMP TABLE t (a)", "SELECT"),
        ("PRAGMA query_only = OFF", "SELECT"),
        ("PRAGMA journal_mode = DELETE", "SELECT"),
        ("ATTACH DATABASE '/etc/passwd' AS p", "SELECT"),
        ("VACUUM INTO '/tmp/stolen'", "SELECT"),
        ("BEGIN; DELETE FROM entries", "SELECT"),
        ("COMMIT", "SELECT"),
        ("SELECT load_extension('x')", "SELECT"),
        ("SELECT 1; DELETE FROM entries", ""),
        ("SELECT * FROM no_such_table", "no such table"),
        ("nonsense", "syntax"),
        ("", ""),
    ] {
        match ask(sql, usual) {
            Err(Fault::Question { text, hint }) => {
                assert!(format!("{text} {hint}").contains(word), "{sql}: {text}");
            }
            // The first statement alone is a question like any other.
            Ok(answer) => assert!(answer.rows.len() <= 1 && word.is_empty(), "{sql}"),
            Err(other) => panic!("{sql}: {other}"),
        }
    }
    // Endless, huge, long: stopped.
    let began = Instant::now();
    let short = SqlLimits { time: Duration::from_millis(300), ..usual };
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
    assert!(ask(endless, short).unwrap_err().to_string().contains("too long"));
    let cross = "SELECT COUNT(*) FROM events a, events b, events c, events d, events e";
    assert!(ask(cross, short).unwrap_err().to_string().contains("too long"));
    assert!(began.elapsed() < PATIENCE);
    assert!(ask("SELECT length(zeroblob(2000000000))", usual).is_err());
    assert!(ask("SELECT printf('%.*c', 2000000000, 'x')", usual).is_err());
    // Matching a pattern is one step, which nothing interrupts: one that would take minutes is not begun.
    let began = Instant::now();
    let text = "replace(hex(zeroblob(100000)), '00', 'aa')";
    for matching in ["LIKE '%' || {long}", "GLOB '*' || {long}"] {
        let matching = matching.replace("{long}", &format!("substr({text}, 1, 49000) || 'b%'"));
        let refused = ask(&format!("SELECT {text} {matching}"), short).unwrap_err().to_string();
        assert!(refused.contains("pattern too complex"), "{refused}");
    }
    // Nor does one of two texts that nearly match take the product of their lengths.
    let (many, last) =
        ("replace(hex(zeroblob(250000)), '00', 'aa')", "replace(hex(zeroblob(120000)), '00', 'aa') || 'b'");
    for call in ["instr({many}, {last})", "length(replace({many}, {last}, 'c'))", "length(trim({many}, {last}))"] {
        let call = call.replace("{many}", many).replace("{last}", last);
        assert!(ask(&format!("SELECT {call}"), usual).is_ok(), "{call}");
    }
    assert!(ask("SELECT 'press-01' LIKE 'press-%' AND 'press-01' GLOB 'press-*'", usual).is_ok());
    // Less than two seconds; by the product of their lengths it would be minutes, on a fast machine too.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let cut = ask(many, SqlLimits { rows: 10, ..usual }).unwrap();
    assert!(cut.is_cut && cut.rows.len() == 10);
    let wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(100000)) FROM n";
    let cut = ask(wide, SqlLimits { bytes: 1 << 20, ..usual }).unwrap();
    assert!(cut.is_cut && cut.rows.len() <= 6);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

/// The folder for the one that dies.
const FOLDER: &str = "TALLY_PROJECTION_FOLDER";

/// Plays the node in a process of its own, until it is killed. Alone it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_dies() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let plant = Plant::new("press-line", 2, 4).unwrap();
    let engine = Engine::open(config(&plant, &folder)).unwrap();
    let _feed = Feed::start(&engine, Place::Sqlite(folder.join("projection.sqlite"))).unwrap();
    let first = engine.store().head().unwrap().checkpoint.size;
    for number in first.. {
        let statement = plant.worn(0, number, &format!("fault-{number}")).unwrap();
        engine.submit(statement).await.unwrap();
    }
}

#[test]
fn killed_while_writing_height_and_rows_agree() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("projection.sqlite");
    let mut last = 0;
    for life in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_one_that_dies"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It dies (SIGKILL) some way into its writing, each time at another point.
        let wanted = last + 20 + 7 * life;
        let begun = Instant::now();
        while height(&file).is_none_or(|height| height < wanted) {
            assert!(begun.elapsed() < PATIENCE, "the projection does not grow");
            std::thread::sleep(Duration::from_millis(3 + life));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = height(&file).unwrap();
        assert!(found >= wanted);
        last = found;
        rows_are_of_the_height(&file);
    }
    // And the next start goes on where it stood: equal to one made anew.
    let fresh = dir.path().join("fresh.sqlite");
    follow_to_the_end(dir.path(), &file);
    follow_to_the_end(dir.path(), &fresh);
    let compared = tally_projection::compare(&mut *reader(&file), &mut *reader(&fresh)).unwrap();
    assert_eq!(compared.differences, Vec::<String>::new());
    assert!(compared.rows > 3 * last);
}

fn height(file: &Path) -> Option<u64> {
    let mut database = Place::Sqlite(file.to_owned()).reader().ok()?;
    Height::read(&mut *database).ok()?.height
}

/// No row is of a later block than the height, and none up to it is missing.
fn rows_are_of_the_height(file: &Path) {
    let mut database = reader(file);
    let sql = "SELECT (SELECT height FROM meta), (SELECT MAX(height) FROM blocks), (SELECT COUNT(*) FROM blocks) - 1,
               (SELECT MAX(height) FROM entries), (SELECT entries FROM meta), (SELECT COUNT(*) FROM entries),
               (SELECT COALESCE(SUM(amount_minor), 0) FROM postings), (SELECT SUM(balance_minor) FROM accounts)";
    let row = database.rows(sql, &[]).unwrap().remove(0);
    let number = |place: usize| row[place].as_integer().unwrap();
    assert!((1..4).all(|place| number(place) == number(0)), "{row:?}");
    assert_eq!((number(4), number(6), number(7)), (number(5), 0, 0), "{row:?}");
}

fn follow_to_the_end(folder: &Path, file: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(config(&plant(), folder)).unwrap();
        let feed = Feed::start(&engine, Place::Sqlite(file.to_owned())).unwrap();
        let head = engine.store().head().unwrap().checkpoint.height;
        until("the projection of every block", async || feed.questions().status().height == Some(head)).await;
        tokio::task::spawn_blocking(move || {
            feed.stop();
            engine.close();
        })
        .await
        .unwrap();
    });
}
