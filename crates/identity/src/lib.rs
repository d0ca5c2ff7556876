//! Who is who: CA, CSR, certificates, reloadable TLS, roles, join tokens, signed receipts.
