module switchboard/benches/compare/http

go 1.19
