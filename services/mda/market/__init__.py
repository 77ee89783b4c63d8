"""The domain: kinds, prices, instruments, verdicts, cursors. No I/O, no grpc."""
