//! Files of calls: written whole, read back, and refused in words.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::media::audio::snapshot::LegSnapshot;
use crate::sdp::{AudioParams, Codec, Direction};

type Kept = String;

fn audio(clock: Clock) -> AudioSnapshot {
    let address: SocketAddr = "127.0.0.1:20000".parse().unwrap();
    let text = serde_json::json!({
        "rtp": address,
        "audio": AudioParams {
            codec: Codec::Pcma,
            send_pt: 8,
            receive_pt: 8,
            dtmf: None,
            remote: address,
            remote_rtcp: address,
            direction: Direction::SendRecv,
            ptime_ms: 20,
        },
        "opened_ns": 1,
        "line": { "ssrc": 1, "next_seq": 2, "anchor_ns": 3, "anchor_time": 4, "frame_ms": 20, "end": 5,
            "relay": [6, 7], "shortest": 160, "packets": 8, "octets": 9 },
        "peer": { "latched": address, "favourite": null, "received": 1, "lost": 0, "foreign": 0,
            "last_packet_ns": null },
        "reports": { "cname": "x", "opened_ns": 1, "from": null },
        "last_press": null,
    });
    let leg: LegSnapshot = serde_json::from_value(text).unwrap();
    AudioSnapshot {
        saved_ns: clock.mono().as_nanos(),
        a: leg.clone(),
        b: leg,
    }
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
}

const KEY: CallKey = CallKey::new(0x0123_4567_89ab_cdef);
const SOON: Duration = Duration::from_secs(10);

impl Bench {
    fn new() -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::start(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    fn take(&self) -> CallFolder {
        CallFolder::take(&self.dir(), self.clock).unwrap()
    }

    /// Lets a keeper write what `work` leaves with it.
    fn kept(&self, work: impl FnOnce(&Keeper<Kept>)) {
        let (keeper, thread) = Keeper::start(self.take()).unwrap();
        work(&keeper);
        assert!(keeper.flush(SOON));
        keeper.end();
        thread.join().unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir().join("0123456789abcdef.call")
    }

    fn one_call(&self) {
        self.kept(|keeper| {
            keeper.keep(KEY, Box::new("talk".to_owned()));
            keeper.hear(KEY, audio(self.clock));
        });
    }

    /// Writes the document anew with one value changed and the checksum right.
    fn forge(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let text = fs::read_to_string(self.file()).unwrap();
        let (_, body) = text.split_once('\n').unwrap();
        let mut document = serde_json::from_str(body).unwrap();
        change(&mut document);
        let body = document.to_string();
        fs::write(
            self.file(),
            format!("{MAGIC} {FORMAT} {}\n{body}", checksum(&body)),
        )
        .unwrap();
    }

    fn read(&self) -> Vec<Found<Kept>> {
        self.take().read()
    }
}

#[test]
fn a_call_is_read_back_as_it_was_kept_and_nobody_else_may_look() {
    let bench = Bench::new();
    bench.one_call();
    let found = bench.read();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].key, found[0].call.as_str()), (KEY, "talk"));
    assert_eq!(found[0].audio.as_ref().unwrap().a.line.relay, Some((6, 7)));
    for (path, mode) in [(bench.dir(), 0o700), (bench.file(), 0o600)] {
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
}

#[test]
fn the_newest_of_each_part_counts_and_a_call_without_audio_is_not_kept() {
    let bench = Bench::new();
    bench.kept(|keeper| {
        keeper.hear(KEY, audio(bench.clock));
        keeper.keep(KEY, Box::new("old".to_owned()));
        keeper.flush(SOON);
        keeper.keep(KEY, Box::new("older".to_owned()));
        keeper.keep(KEY, Box::new("new".to_owned()));
        keeper.keep(CallKey::new(2), Box::new("mute".to_owned()));
        keeper.hear(CallKey::new(3), audio(bench.clock));
    });
    let calls: Vec<String> = bench.read().into_iter().map(|found| found.call).collect();
    assert_eq!(calls, ["new"]);
}

#[test]
fn a_forgotten_call_has_no_file_not_even_when_its_audio_speaks_once_more() {
    let bench = Bench::new();
    bench.one_call();
    bench.kept(|keeper| {
        keeper.forget(KEY);
        keeper.hear(KEY, audio(bench.clock));
    });
    assert!(bench.read().is_empty());
    assert!(!bench.file().exists());
}

#[test]
fn what_is_torn_foreign_or_of_another_format_is_of_no_use_and_goes() {
    type Spoil = fn(&str) -> String;
    let cases: [(&str, Spoil); 5] = [
        ("torn", |text| text[..text.len() - 1].to_owned()),
        ("changed", |text| text.replace("talk", "walk")),
        ("foreign", |_| "hello\nworld".to_owned()),
        ("format", |text| {
            text.replacen("cardline-call 1 ", "cardline-call 2 ", 1)
        }),
        ("empty", |_| String::new()),
    ];
    for (name, spoil) in cases {
        let bench = Bench::new();
        bench.one_call();
        let text = fs::read_to_string(bench.file()).unwrap();
        fs::write(bench.file(), spoil(&text)).unwrap();
        assert!(bench.read().is_empty(), "{name}");
        assert!(!bench.file().exists(), "{name}");
    }
}

#[test]
fn another_boot_and_an_old_snapshot_are_told_and_the_call_can_still_be_ended() {
    let bench = Bench::new();
    bench.one_call();
    bench.forge(|document| document["boot"] = "another".into());
    let [found] = <[Found<Kept>; 1]>::try_from(bench.read()).unwrap();
    assert!(matches!(found.audio, Err(Unfit::OtherBoot)), "{found:?}");
    assert_eq!(found.call, "talk");

    let bench = Bench::new();
    bench.one_call();
    let old = bench.clock.mono() - RESTORABLE - Duration::from_secs(1);
    bench.forge(|document| document["saved_ns"] = old.as_nanos().into());
    let [found] = <[Found<Kept>; 1]>::try_from(bench.read()).unwrap();
    assert!(matches!(found.audio, Err(Unfit::Old(_))), "{found:?}");
}

#[test]
fn a_half_written_file_goes_and_strange_names_stay() {
    let bench = Bench::new();
    bench.one_call();
    let (half, strange) = (bench.dir().join("77.new"), bench.dir().join("notes.txt"));
    fs::write(&half, "half").unwrap();
    fs::write(&strange, "mine").unwrap();
    assert_eq!(bench.read().len(), 1);
    assert!(!half.exists() && strange.exists());
}

#[test]
fn a_folder_serves_one_daemon_at_a_time() {
    let bench = Bench::new();
    let held = bench.take();
    let refused = CallFolder::take(&bench.dir(), bench.clock).unwrap_err();
    assert!(refused.to_string().contains("another cardline"), "{refused}");
    drop(held);
    bench.take();
}
