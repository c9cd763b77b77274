//! `cardline pin-key rotate`: another key for the PINs at rest, while no daemon serves.

use std::path::Path;

use super::{Clock, read_config};
use crate::store::{Act, Hold, PinKey, Store, StoreOptions};

/// Gives how many cards stand under the new key.
///
/// # Errors
/// In words. Asking again goes on where a crash or a fault broke off.
pub async fn rotate(file: &Path) -> Result<u64, String> {
    let config = read_config(file)?;
    let url = &config.store.url;
    let words = |fault: crate::store::StoreFault| fault.to_string();
    let _hold = Hold::take(url).map_err(words)?;
    let key = PinKey::find(url, config.store.pin_key_file.as_deref()).map_err(words)?;
    let store = Store::open(StoreOptions::new(url, key)).await.map_err(words)?;
    let nodes = store.nodes().await.map_err(words)?;
    if let Some(alive) = nodes
        .iter()
        .find(|node| node.lease_ms.is_some_and(|left| left > 0))
    {
        store.close().await;
        return Err(format!(
            "node {} serves this database; stop every cardline on it first",
            alive.node
        ));
    }
    // Opening may have finished an earlier rotation, so the key is looked for again.
    let key = PinKey::find(url, config.store.pin_key_file.as_deref()).map_err(words)?;
    let next = key.next().map_err(words)?;
    let act = Act {
        now: Clock::start().wall(),
        actor: "shell".to_owned(),
        key: None,
    };
    let rotated = store.rotate_pin_key(&act, &next).await.map_err(words);
    store.close().await;
    let cards = rotated?;
    key.finish_rotation().map_err(words)?;
    Ok(cards)
}
