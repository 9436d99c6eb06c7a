//! The words of the API: what travels as JSON, in both directions. Keys are always present unless a type says
//! otherwise; within one schema number keys are only ever added.

mod config;
mod event;
mod lookup;
mod netcheck;
mod open;
mod overview;
mod pairing;
mod ping;
mod relaying;
mod rows;
mod services;
mod text;
mod timestamp;
mod trace;
mod why;

pub use config::ConfigReport;
pub use event::{Event, Happening, PathBrief};
pub use lookup::{ResolveReport, ResolveRequest, ResolveSource};
pub use netcheck::{
    FamilyCheck, InterfaceCheck, NetcheckReport, PortMappingCheck, PortMappingState, ProbeCheck, RelayCheck,
};
pub use open::{OpenReport, OpenRequest};
pub use overview::{
    HealthItem, Overview, OverviewClass, PathOverview, PeerOverview, Reachability, RelayOverview, RelayState,
    SCHEMA, SelfOverview, Severity,
};
pub use pairing::{GroupMember, GroupReport, InviteEvent, InviteRequest, JoinReport, JoinRequest};
pub use ping::{PingReply, PingReport, PingRequest, PingStats};
pub use relaying::{RelayServiceWord, RelayingOverview};
pub use rows::{
    AuthAdd, AuthEdit, AuthRow, DownReport, PathRow, PeerRow, ReachabilityGrade, StatusReport, StatusWord,
    UpReport,
};
pub use services::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow};
pub use text::{PlainText, Row};
pub use timestamp::Timestamp;
pub use trace::{TraceHop, TraceReport, TraceRequest};
pub use why::{JournalReport, WhyCandidate, WhyPath, WhyPunch, WhyReport, WhySwitch};
