// node_server.js PORT FOLDER: hands out the files of the folder, and answers a POST with the SHA-256 of its body.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');

const [port, folder] = process.argv.slice(2);

http.createServer((request, response) => {
  if (request.method === 'POST') {
    const digest = crypto.createHash('sha256');
    request.on('data', (piece) => digest.update(piece));
    request.on('end', () => response.end(digest.digest('hex')));
    return;
  }
  const file = fs.createReadStream(path.join(folder, path.basename(request.url)));
  file.on('error', () => response.writeHead(404).end());
  file.pipe(response);
}).listen(Number(port), '127.0.0.1');
