//! Puts a world together from its seed.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cardline::call::CallRules;
use cardline::call::speech::Grammar;
use cardline::config::{self, Config};
use cardline::media::PromptSetId;
use cardline::now::{IdSource, Now};
use cardline::sip::endpoint::EndpointConfig;
use cardline::switch::{Input, Switch, SwitchConfig};

use super::cast::Cast;
use super::desk::Desk;
use super::log::Log;
use super::world::{SWITCH, World};

/// How a run is to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Keep the log as text.
    pub readable: bool,
    /// Everyone behaves, nothing fails.
    pub polite: bool,
}

pub fn world(seed: u64, wish: Wish) -> World {
    let (cast, store) = Cast::new(seed, wish.polite);
    let desk = Desk::new(store, seed);
    let switch = switch(seed, &cast, wish);
    let mut world = World::assemble(seed, cast, desk, switch, Log::new(wish.readable));
    world.start(!wish.polite);
    world
}

fn switch(seed: u64, cast: &Cast, wish: Wish) -> Switch {
    let mut ids = IdSource::from_number(seed ^ 0x5117c);
    let config = settings(&mut ids, wish);
    let rules = CallRules {
        config: config.call.clone(),
        no_media: config.media.no_media,
        probe_again: Duration::from_secs(5),
        grammars: BTreeMap::from([(PromptSetId(0), grammar().clone())]),
        credentials: BTreeMap::new(),
    };
    let switch_config = SwitchConfig {
        endpoint: EndpointConfig::new(&config, vec![SWITCH.into()]),
        rules,
        max_calls: config.limits.calls,
        retry_after_s: config.limits.retry_after_s,
    };
    let mut switch = Switch::new(switch_config, ids);
    let directory = Input::Directory(Arc::new(cast.directory.clone()));
    switch.handle(Now::default(), directory, &mut Vec::new());
    switch
}

/// A quarter of the seeds run with other limits than the product's.
fn settings(ids: &mut IdSource, wish: Wish) -> Config {
    let mut text = String::from("[[trunk]]\nname = \"carrier\"\npeers = [\"198.51.100.0/24\"]\n");
    if !wish.polite {
        match ids.below(8) {
            0 => text.push_str("[call]\nslice_s = 30\nrenew_lead_s = 14\nwarnings_s = [10]\n"),
            1 => {
                text.push_str("[call]\nslice_s = 10\nrenew_lead_s = 8\nwarnings_s = [5]\ncheckpoint_s = 1\n")
            }
            2 => text.push_str("[limits]\ncalls = 2\n"),
            3 => text.push_str("[sip]\nsession_expires_s = 90\nmin_se_s = 90\n"),
            _ => {}
        }
    }
    config::parse("sim.toml", &text).expect("it is a configuration")
}

fn grammar() -> &'static Grammar {
    static GRAMMAR: OnceLock<Grammar> = OnceLock::new();
    GRAMMAR.get_or_init(|| {
        Grammar::parse(include_str!("../../../prompts/de/grammar.toml")).expect("it is checked elsewhere")
    })
}
