//! Offer and answer over one audio stream (RFC 3264).
