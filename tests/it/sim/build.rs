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
use super::log::Log;
use super::world::{Node, World, address};

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
    // Most installations are one process; some are two or three over one store.
    let count = match IdSource::from_number(seed ^ 0x0dd).below(10) {
        _ if wish.polite => 1,
        0..=5 => 1,
        6 | 7 => 2,
        _ => 3,
    };
    let node = |node| Node::new(seed, node, switch(seed, (node, 0), &cast));
    let nodes = (0..count).map(node).collect();
    let mut world = World::assemble(seed, (cast, store), nodes, Log::new(wish.readable));
    let checkpoint = settings(seed, wish.polite).call.checkpoint;
    world.bounds.checkpoint = u64::try_from(checkpoint.as_nanos()).unwrap_or(u64::MAX);
    world.start(!wish.polite);
    world
}

/// A fresh switch for one life of a node.
pub fn switch(seed: u64, (node, life): (usize, u32), cast: &Cast) -> Switch {
    let ids = IdSource::from_number(seed ^ 0x5117c ^ (node as u64) << 40 ^ u64::from(life) << 48);
    let config = settings(seed, cast.polite);
    let rules = CallRules {
        config: config.call.clone(),
        no_media: config.media.no_media,
        probe_again: Duration::from_secs(5),
        grammars: BTreeMap::from([(PromptSetId(0), grammar().clone())]),
        credentials: BTreeMap::new(),
    };
    let switch_config = SwitchConfig {
        endpoint: EndpointConfig::new(&config, vec![address(node)]),
        rules,
        max_calls: config.limits.calls,
        retry_after_s: config.limits.retry_after_s,
    };
    let mut switch = Switch::new(switch_config, ids);
    let directory = Input::Directory(Arc::new(cast.directory.clone()));
    switch.handle(Now::default(), directory, &mut Vec::new());
    switch
}

/// Half of the seeds run with other limits than the product's; all nodes of a run have the same.
fn settings(seed: u64, polite: bool) -> Config {
    let mut ids = IdSource::from_number(seed ^ 0x5e77);
    let mut text = String::from("[[trunk]]\nname = \"carrier\"\npeers = [\"198.51.100.0/24\"]\n");
    if !polite {
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
