//! peerup on laboratory hosts: a relay, nodes, and what they say about themselves.
