//! Children that eat, hang, babble, tear and leave others behind: what becomes of them, and that nothing of them stays.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hub_sdk::{Connector, ErrorKind};
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::fake::FakeAirbyte;
use crate::support::processes_with;

/// Settings under which a run ends soon.
fn config(fake: &FakeAirbyte, how: &str) -> Value {
    let mut config = fake.config();
    config["config"]["misbehave"] = json!(how);
    config
}

fn marked(fake: &FakeAirbyte) -> Vec<String> {
    processes_with(fake.scratch.path().to_str().unwrap())
}

fn folders(fake: &FakeAirbyte) -> usize {
    std::fs::read_dir(fake.work()).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_eats_memory_is_ended_and_so_is_its_own_child() {
    for how in ["eat", "eat-in-a-child"] {
        let fake = FakeAirbyte::persons();
        let mut config = config(&fake, how);
        config["memory_mib"] = json!(120);
        let error = Desk::new(config, &["nguoi"]).failure().await;
        assert_eq!(error.kind(), ErrorKind::NotPrepared, "{}", error.report());
        assert!(error.report().contains("more than `memory_mib`"), "{}", error.report());
        assert_eq!((marked(&fake), folders(&fake)), (Vec::new(), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_hangs_is_ended() {
    for (limit, words) in [("silent_for_s", "said nothing"), ("run_within_s", "took longer")] {
        let fake = FakeAirbyte::persons();
        let mut config = config(&fake, "hang");
        config[limit] = json!(0.7);
        let error = Desk::new(config, &["nguoi"]).failure().await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
        assert!(error.report().contains(words) && error.advice().unwrap().contains(limit), "{}", error.report());
        assert_eq!((marked(&fake), folders(&fake)), (Vec::new(), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_is_not_the_childs_silence() {
    let mut fake = FakeAirbyte::persons();
    // More than the pipe and the reader hold, so that the child waits.
    fake.put("nguoi", (1..=4_000).map(|id| json!({"id": id, "name": "x".repeat(500)})));
    let mut config = fake.config();
    (config["silent_for_s"], config["run_within_s"]) = (json!(1.5), json!(3));
    let mut desk = Desk::new(config, &["nguoi"]);
    desk.limits.rows = 50;
    let mut run = hub_conformance::Run::start_within(&desk.connector().await, &desk.checkpoint, 16 << 10);
    desk.take(&mut run).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.snapshot(&mut run).await.len(), 4_000);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_messages_are_counted_and_the_rows_come() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [json!({"id": 1, "name": "An"})]);
    let mut desk = Desk::new(config(&fake, "garbage"), &["nguoi"]);
    desk.config["every_s"] = json!(600);
    let connector = desk.connector().await;
    let mut run = hub_conformance::Run::start(&connector, &desk.checkpoint);
    assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An"]);
    let gauges = connector.gauges().await.unwrap();
    let foreign = gauges.iter().find(|gauge| gauge.name == "foreign_lines").unwrap();
    assert!((foreign.value - 4.0).abs() < 0.1, "{gauges:?}");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_or_torn_line_ends_the_run_and_is_not_left_out() {
    for (how, words) in [("huge", "longer than `line_mib`"), ("torn", "a message that cannot be read")] {
        let mut fake = FakeAirbyte::persons();
        fake.put("nguoi", [json!({"id": 7, "name": "never"})]);
        let mut config = config(&fake, how);
        config["line_mib"] = json!(1);
        let error = Desk::new(config, &["nguoi"]).failure().await;
        assert_eq!(error.kind(), ErrorKind::NotPrepared, "{}", error.report());
        assert!(error.report().contains(words) && !error.report().contains("0790"), "{}", error.report());
        assert_eq!((marked(&fake), folders(&fake)), (Vec::new(), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_in_the_midst_of_a_line_is_told_as_dead() {
    for (how, kind, words) in [
        ("die-in-a-line", ErrorKind::Unreachable, "it was killed"),
        ("end-in-a-line", ErrorKind::NotPrepared, "a message that cannot be read"),
    ] {
        let fake = FakeAirbyte::persons();
        let error = Desk::new(config(&fake, how), &["nguoi"]).failure().await;
        assert!(error.kind() == kind && error.report().contains(words), "{how}: {:?} {}", error.kind(), error.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_slowly_are_not_kept_back() {
    let fake = FakeAirbyte::persons();
    let mut desk = Desk::new(config(&fake, "drip"), &["nguoi"]);
    let mut run = desk.run().await;
    let first = desk.changes(&mut run, 1).await;
    assert!(first.len() < 100, "{} of 150 rows came at once", first.len());
    run.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_child_are_told_without_secrets_and_numbers_of_persons() {
    let fake = FakeAirbyte::persons();
    let mut desk = Desk::new(config(&fake, "speak"), &["nguoi"]);
    let error = desk.failure().await;
    assert!(error.report().contains("exit code 3; it said: mật khẩu là *** của #########"), "{}", error.report());
    for shown in [error.report(), format!("{error:?}"), format!("{:?}", desk.connector().await)] {
        assert!(!shown.contains("mat khau") && !shown.contains("079090000001"), "{shown}");
    }
    desk.config["stderr_lines"] = json!(0);
    let error = desk.failure().await;
    assert!(!error.report().contains("khẩu"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_no_process_though_its_child_ignores_the_word() {
    for is_shut in [true, false] {
        let fake = FakeAirbyte::persons();
        let desk = Desk::new(config(&fake, "ignore-term"), &["nguoi"]);
        let run = desk.run().await;
        let pids = pids(&fake).await;
        assert!(pids.iter().all(|pid| lives(*pid)));
        if is_shut {
            run.shut_within(Duration::from_secs(5)).await;
        } else {
            run.kill().await;
        }
        gone(&pids).await;
        assert_eq!(folders(&fake), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_leaves_behind_is_ended_with_its_run() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [json!({"id": 1, "name": "An"})]);
    let mut desk = Desk::new(config(&fake, "leave-a-child"), &["nguoi"]);
    desk.config["every_s"] = json!(600);
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An"], "it holds the output open, and the run ends all the same");
    assert_eq!((marked(&fake), folders(&fake)), (Vec::new(), 0));
    run.shut().await;
}

/// The hub that the next test kills: this test binary again.
#[tokio::test(flavor = "multi_thread")]
async fn helper_that_is_killed() {
    let Ok(config) = std::env::var("EXEC_HELPER") else { return };
    let desk = Desk::new(serde_json::from_str(&config).unwrap(), &["nguoi"]);
    let error = desk.failure().await;
    panic!("{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_ends_with_a_hub_that_is_killed_and_the_next_hub_removes_its_folder() {
    let fake = FakeAirbyte::persons();
    let mut hub = Command::new(std::env::current_exe().unwrap());
    hub.args(["--exact", "children::helper_that_is_killed"]).env("EXEC_HELPER", config(&fake, "ignore-term").to_string());
    let mut hub = hub.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pids = pids(&fake).await;
    assert!(lives(pids[0]));
    hub.kill().unwrap();
    hub.wait().unwrap();
    gone(&pids[..1]).await;
    // Its own child is not known to the kernel as the hub's: it is the test's to end.
    let _ended = Command::new("kill").args(["-9", &pids[1].to_string()]).status().unwrap();
    assert_eq!(folders(&fake), 1);
    let _next = Desk::new(fake.config(), &["nguoi"]).connector().await;
    assert_eq!(folders(&fake), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_has_a_clean_environment() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [json!({"id": 1, "name": "An"})]);
    let mut desk = Desk::new(config(&fake, "environment"), &["nguoi"]);
    desk.config["env"] = json!({"API_TOKEN": "bi-mat"});
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    run.shut().await;
    let environment: Value = serde_json::from_slice(&std::fs::read(fake.data().join("environment")).unwrap()).unwrap();
    let mut names: Vec<_> = environment.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    // Python adds LC_CTYPE by itself.
    names.retain(|name| *name != "LC_CTYPE");
    assert_eq!(names, ["API_TOKEN", "HOME", "LANG", "PATH", "TMPDIR", "TZ"]);
    assert!(environment["HOME"].as_str().unwrap().starts_with(fake.work().to_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_the_source_changes_is_kept() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [json!({"id": 1, "name": "An"})]);
    let mut desk = Desk::new(config(&fake, "change-config"), &["nguoi"]);
    desk.config["config"]["token"] = json!("a");
    desk.config["updated_config"] = json!(fake.scratch.path().join("kept.json"));
    for _hub in 0..2 {
        let mut run = desk.run().await;
        desk.snapshot(&mut run).await;
        fake.put("nguoi", [json!({"id": fake.rows["nguoi"].len() + 1, "name": "x"})]);
        desk.changes(&mut run, 1).await;
        run.shut().await;
    }
    let tokens = std::fs::read_to_string(fake.data().join("tokens")).unwrap();
    let tokens: Vec<_> = tokens.lines().collect();
    let expected: Vec<_> = (0..tokens.len()).map(|run| format!("a{}", "+".repeat(run))).collect();
    assert!(tokens.len() >= 3);
    assert_eq!(tokens, expected, "each token is used once");
    desk.connector().await.release().await.unwrap();
    assert!(!fake.scratch.path().join("kept.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_told_before_it_is_started() {
    let fake = FakeAirbyte::persons();
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    desk.config["command"] = json!(["khong-co-chuong-trinh"]);
    let probe = desk.connector().await.probe().await.unwrap();
    assert_eq!(probe.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["command-missing"]);
    assert_eq!(desk.failure().await.kind(), ErrorKind::BadConfig);
}

async fn pids(fake: &FakeAirbyte) -> Vec<u32> {
    let file = fake.data().join("pids");
    let since = Instant::now();
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.len() == 2 {
            std::fs::remove_file(&file).unwrap();
            return pids;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "the child does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a process lives; one that waits to be reaped does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn gone(pids: &[u32]) {
    let since = Instant::now();
    while pids.iter().any(|pid| lives(*pid)) {
        assert!(since.elapsed() < Duration::from_secs(2), "{pids:?} live on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
