//! A panic in one call is that call's matter (R20): in its script, and in its audio.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Mutex;

use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

use super::*;
use crate::call::CallRules;
use crate::call::cdr::EndCause;
use crate::call::directory::{Directory, Number, Project, Role};
use crate::card::tariff::Tariff;
use crate::card::{LedgerRequest, LineVerdict, PinVerdict};
use crate::config::{CalledFrom, Cidr, Config, NumberFormat, TrunkConfig};
use crate::driver::inbox;
use crate::driver::journal::Journal;
use crate::driver::ledger::Tools;
use crate::driver::media::{MediaPlan, Reporting};
use crate::driver::store_watch::StoreWatch;
use crate::ids::{CallKey, NumberId, ProjectId};
use crate::media::bank::PromptBank;
use crate::media::{MediaLimits, PromptSetId};
use crate::now::IdSource;
use crate::sip::endpoint::EndpointConfig;
use crate::switch::SwitchConfig;
use crate::units::{E164, TalkTime};

const NUMBER: &str = "+493023125101";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(20);

/// What the books were told: calls in the order of their beginning, and how each ended.
#[derive(Default)]
struct Books {
    opened: Vec<CallKey>,
    closed: BTreeMap<CallKey, EndCause>,
}

/// The loop, turned by hand, with real sockets and a real media thread; and one telephone.
struct Bench {
    running: Loop,
    phone: UdpSocket,
    sip: SocketAddr,
    books: Arc<Mutex<Books>>,
    stop: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Bench {
    fn new() -> Bench {
        let runtime = RuntimeBuilder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime");
        let (inbox, queue) = inbox();
        let books = Arc::new(Mutex::new(Books::default()));
        let sip = SipSockets::bind(&[SocketAddr::new(LOCALHOST, 0)]).expect("a free port");
        let address = sip.addresses()[0];
        let stop = Arc::new(AtomicBool::new(false));
        sip.receive(&inbox, &stop).expect("a thread");
        let clock = Clock::start();
        let mut ids = IdSource::from_number(u64::from(std::process::id()));
        let bank = Arc::new(PromptBank::builder().build());
        let reporting = Reporting {
            inbox: inbox.clone(),
            keep: Arc::new(|_, _| {}),
        };
        let mut media =
            MediaPlane::start(&media_plan(), &bank, clock, &reporting, &mut ids).expect("a media thread");
        let parts = Parts {
            clock,
            switch: Switch::new(switch_config(address), ids),
            sip,
            ports: media.refill(),
            media,
            ledger: Desk::new(tools(&books), inbox.clone(), runtime.handle().clone()),
            answer: Box::new(|_, _| {}),
            publish: Box::new(|_, _| {}),
        };
        let mut running = Loop::new(parts, queue);
        let directory = Input::Directory(Arc::new(directory()));
        running.begin();
        running.handle(clock.now(), directory);
        let phone = UdpSocket::bind((LOCALHOST, 0)).expect("a free port");
        phone
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a timeout");
        Bench {
            running,
            phone,
            sip: address,
            books,
            stop,
            _runtime: runtime,
        }
    }

    /// Turns the loop and lets the telephone answer, until `done` says so.
    fn until(&mut self, what: &str, done: impl Fn(&Bench) -> bool) {
        let limit = self.running.parts.clock.mono() + FAILED;
        while !done(self) {
            assert!(self.running.parts.clock.mono() < limit, "waited in vain: {what}");
            self.running.turn();
            self.answer_requests();
        }
    }

    /// A withheld caller, in the middle of being asked for the PIN.
    fn call(&mut self, name: &str) -> CallKey {
        let before = self.books.lock().unwrap().opened.len();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n",
            self.phone.local_addr().expect("bound").port()
        );
        self.request("INVITE", name, 1, "", &sdp);
        let mut answer = String::new();
        for _ in 0..1000 {
            self.running.turn();
            answer = self.hear().unwrap_or(answer);
            if answer.starts_with("SIP/2.0 200") {
                break;
            }
        }
        let tag = answer
            .split("tag=")
            .nth(2)
            .expect("a 200 with our tag and theirs");
        let tag = tag.split(['\r', ';']).next().unwrap_or_default().to_owned();
        self.request("ACK", name, 1, &tag, "");
        self.until("the row of the call is opened", |bench| {
            bench.books.lock().unwrap().opened.len() > before
        });
        let call = self.books.lock().unwrap().opened[before];
        self.until("the PIN is asked for", |bench| bench.state(call) == Some("pin"));
        call
    }

    fn request(&self, method: &str, name: &str, cseq: u32, to_tag: &str, sdp: &str) {
        let (me, sip) = (self.phone.local_addr().expect("bound"), self.sip);
        let to_tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        let length = sdp.len();
        let text = format!(
            "{method} sip:{NUMBER}@{sip} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};rport;branch=z9hG4bK{name}{method}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:anonymous@anonymous.invalid>;tag=f\r\n\
             To: <sip:{NUMBER}@{sip}>{to_tag}\r\n\
             Call-ID: {name}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:{name}@{me}>\r\n\
             Content-Type: application/sdp\r\n\
             Content-Length: {length}\r\n\r\n{sdp}"
        );
        self.phone.send_to(text.as_bytes(), sip).expect("sent");
    }

    fn hear(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let (length, _) = self.phone.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// 200 to whatever the switch asks: its BYEs.
    fn answer_requests(&self) {
        while let Some(text) = self.hear() {
            if text.starts_with("SIP/2.0") {
                continue;
            }
            let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
            let lines = text.lines().filter(|l| kept.iter().any(|k| l.starts_with(k)));
            let head: String = lines.flat_map(|line| [line, "\r\n"]).collect();
            let answer = format!("SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n");
            self.phone.send_to(answer.as_bytes(), self.sip).expect("sent");
        }
    }

    fn state(&self, call: CallKey) -> Option<&'static str> {
        let live = self
            .running
            .parts
            .switch
            .live_calls(self.running.parts.clock.now());
        live.iter().find(|live| live.call == call).map(|live| live.state)
    }

    fn cause(&self, call: CallKey) -> Option<EndCause> {
        self.books.lock().unwrap().closed.get(&call).copied()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn tools(books: &Arc<Mutex<Books>>) -> Tools {
    Tools {
        ask: ledger(books),
        apply: Box::new(|_, order| panic!("nothing goes into the journal: {order:?}")),
        epoch: Box::new(|| 1),
        journal: Journal::without_file(),
        watch: StoreWatch::default(),
        clock: Clock::start(),
        timeout: Duration::from_secs(2),
    }
}

/// Takes every row; knows no line and no PIN.
fn ledger(books: &Arc<Mutex<Books>>) -> crate::driver::ledger::Ask {
    let books = Arc::clone(books);
    Box::new(move |request| {
        let reply = match request {
            LedgerRequest::OpenCdr(opening) => {
                books.lock().unwrap().opened.push(opening.call);
                LedgerReply::Done
            }
            LedgerRequest::CloseCdr(cdr) => {
                books.lock().unwrap().closed.insert(cdr.call, cdr.end_cause);
                LedgerReply::Done
            }
            LedgerRequest::FindLine { .. } => LedgerReply::Line(LineVerdict::Unknown),
            LedgerRequest::CheckPin { .. } => LedgerReply::Pin(PinVerdict::Wrong),
            LedgerRequest::Settle(_) => LedgerReply::Settled {
                balance: TalkTime::ZERO,
            },
            LedgerRequest::Bind { .. }
            | LedgerRequest::Reserve { .. }
            | LedgerRequest::Renew { .. }
            | LedgerRequest::Checkpoint { .. }
            | LedgerRequest::ReadCard { .. } => LedgerReply::Unavailable,
        };
        Box::pin(async move { Ok(reply) })
    })
}

fn media_plan() -> MediaPlan {
    MediaPlan {
        listen: LOCALHOST,
        advertise: LOCALHOST,
        ports: 46000..=46999,
        stock: 4,
        threads: NonZeroUsize::new(1),
        limits: MediaLimits {
            rtp_lost: Duration::from_secs(20),
        },
    }
}

fn switch_config(address: SocketAddr) -> SwitchConfig {
    let config = Config {
        trunks: vec![TrunkConfig {
            name: "carrier".to_owned(),
            peers: Cidr::parse("127.0.0.1").into_iter().collect(),
            proxy: None,
            number_format: NumberFormat::E164,
            called_from: CalledFrom::RequestUri,
            trust_pai: true,
            country_code: "49".to_owned(),
            username: None,
            password_file: None,
            inbound: true,
        }],
        ..Config::default()
    };
    SwitchConfig {
        endpoint: EndpointConfig::new(&config, vec![address]),
        rules: CallRules {
            config: config.call.clone(),
            no_media: config.media.no_media,
            probe_again: config.media.rtp_lost,
            grammars: BTreeMap::new(),
            credentials: BTreeMap::new(),
        },
        max_calls: 10,
        retry_after_s: 1,
    }
}

fn directory() -> Directory {
    let project = Project {
        id: ProjectId::new(1),
        name: "test1".to_owned(),
        prompts: PromptSetId(0),
        enabled: true,
        tariff: Tariff::default(),
        pin_length: 10,
        accept_key: false,
        hold_pause: None,
        show_caller: false,
        show_note: false,
        consultation: None,
        targets: Vec::new(),
    };
    let number = Number {
        id: NumberId::new(1),
        project: project.id,
        role: Role::Both,
    };
    Directory {
        numbers: BTreeMap::from([(E164::parse(NUMBER).expect("a number"), number)]),
        projects: BTreeMap::from([(project.id, Arc::new(project))]),
    }
}

#[test]
fn a_panic_in_a_script_and_one_in_an_audio_end_their_calls_and_no_other() {
    let mut bench = Bench::new();
    let calls = ["one", "two", "three"].map(|name| bench.call(name));
    let [script, audio, well] = calls;

    bench.running.parts.switch.break_call(script);
    // Its next input; a call in the menu is asked nothing otherwise for a while.
    let now = bench.running.parts.clock.now();
    bench.running.ask(now, AdminAsk::HangUp(script));
    bench.until("the broken script's call is in the books", |bench| {
        bench.cause(script).is_some()
    });
    assert_eq!(bench.cause(script), Some(EndCause::Internal));

    bench.running.parts.media.break_call(audio);
    bench.until("the broken audio's call is in the books", |bench| {
        bench.cause(audio).is_some()
    });
    assert_eq!(bench.cause(audio), Some(EndCause::Internal));
    assert_eq!(bench.running.broken, 0, "no panic was the switch's own");

    assert_eq!(bench.state(well), Some("pin"), "the third call lives on");
    let after = bench.call("four");
    for call in [well, after] {
        let now = bench.running.parts.clock.now();
        bench.running.ask(now, AdminAsk::HangUp(call));
        bench.until("an untouched call ends as it was told", |bench| {
            bench.cause(call).is_some()
        });
        assert_eq!(bench.cause(call), Some(EndCause::AdminKill));
    }
    bench.until("every call is forgotten", |bench| {
        bench.running.parts.switch.is_idle()
    });
}
