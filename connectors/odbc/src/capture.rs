//! The looks of a system, one after the other on its one connection.

use std::sync::Arc;
use std::time::Duration;

use hub_sdk::model::Checkpoint;
use hub_sdk::{Delivery, Ended, Outlet};
use tokio::time::Instant;

use crate::config::OdbcConfig;
use crate::follower::Follower;
use crate::link::Link;

/// Looks at the streams whenever they are due, until an error or until nobody receives.
pub(crate) async fn run(mut link: Link, config: Arc<OdbcConfig>, mut followers: Vec<Follower>, outlet: Outlet) -> Result<(), Ended> {
    let mut due = vec![Instant::now(); followers.len()];
    let mut is_following = false;
    loop {
        let Some(next) = (0..followers.len()).min_by_key(|place| due[*place]) else {
            outlet.shut().await;
            return Ok(());
        };
        let wait = due[next].saturating_duration_since(Instant::now());
        link.rest(wait);
        outlet.pause(wait).await?;
        let follower = &mut followers[next];
        follower.look(&mut link).await?;
        due[next] = Instant::now() + Duration::from_secs_f64(follower.stream.every_s.unwrap_or(config.every_s));
        if !is_following && followers.iter().all(|follower| follower.is_complete) {
            is_following = true;
            // An empty delivery is the word that changes are followed now.
            outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await?;
        }
    }
}

/// What the checkpoint says of streams that are no longer asked for, as something to forget.
pub(crate) fn forgotten(from: &Checkpoint, followers: &[Follower]) -> Checkpoint {
    let mut gone = Checkpoint::empty();
    for (partition, position) in from.iter() {
        let Some((kind, rest)) = partition.split_once('/') else { continue };
        let stream = match kind {
            "known" | "window" => rest.rsplit_once('/').map_or(rest, |(stream, _number)| stream),
            _ => rest,
        };
        if position.is_some() && !followers.iter().any(|follower| follower.name.as_str() == stream) {
            gone.remove(partition);
        }
    }
    gone
}
