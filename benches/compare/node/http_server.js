// HTTP on Node, with its own settings: `node http_server.js MODE HOST:PORT`; there is one mode.
//
// GET / is answered with a short text, anything else with 404.
"use strict";

const http = require("http");

const [host, port] = process.argv[3].split(":");
const server = http.createServer((request, response) => {
  const found = request.url === "/";
  response.statusCode = found ? 200 : 404;
  response.end(found ? "Hello, World!\n" : "404 Not Found\n");
});
server.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
