module switchboard/benches/compare

go 1.19
