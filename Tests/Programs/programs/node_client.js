// node_client.js URL FOLDER: fetches each file of the folder and posts it back, on kept connections, eight at a time, ten
// rounds for the small ones. Prints how many requests were made and the bytes of their bodies, as JSON.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');

const [base, folder] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
const names = fs.readdirSync(folder);
const sizes = new Map(names.map((name) => [name, fs.statSync(path.join(folder, name)).size]));

function digestOfFile(name) {
  return crypto.createHash('sha256').update(fs.readFileSync(path.join(folder, name))).digest('hex');
}

// The SHA-256 of the answer to a GET, or the answer to a POST of the file.
function ask(method, name) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${base}/${name}`, { agent, method }, (response) => {
      const digest = crypto.createHash('sha256');
      let text = '';
      response.on('data', (piece) => (method === 'GET' ? digest.update(piece) : (text += piece)));
      response.on('end', () => resolve(method === 'GET' ? digest.digest('hex') : text));
      response.on('error', reject);
    });
    request.on('error', reject);
    if (method === 'POST') fs.createReadStream(path.join(folder, name)).pipe(request);
    else request.end();
  });
}

async function main() {
  const digests = new Map(names.map((name) => [name, digestOfFile(name)]));
  const rounds = names.flatMap((name) => Array(sizes.get(name) < 1 << 20 ? 10 : 1).fill(name));
  let requests = 0;
  let bytes = 0;
  await Promise.all(rounds.flatMap((name) => ['GET', 'POST'].map(async (method) => {
    const answer = await ask(method, name);
    if (answer !== digests.get(name)) throw new Error(`${method} ${name}: the digest is ${answer}`);
    requests += 1;
    bytes += sizes.get(name);
  })));
  agent.destroy();
  console.log(JSON.stringify({ requests, bytes }));
}

main();
