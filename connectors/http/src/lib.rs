//! Any REST or SOAP service as a source: lists that are read whole or from a watermark on, look-ups by key, and requests that
//! are submitted and then polled.
//!
//! `caller` makes one exchange (login, rate, retries, breaker, evidence); `list`, `lookup` and `push` each follow a stream by
//! exchanges; `asked` and [`hub_sdk::Known`] are what the checkpoint remembers.

mod answer;
mod asked;
mod auth;
mod breaker;
mod caller;
mod config;
mod connector;
mod evidence;
mod follower;
mod keyed;
mod keys;
mod list;
mod lookup;
mod mark;
mod paging;
mod probe;
mod push;
mod reading;
mod request;
mod retry;
mod rows;
mod site;
mod template;
mod tls;
mod trail;

pub use config::*;
pub use connector::Http;
