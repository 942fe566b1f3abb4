// `node server.js PORT BUG` serves KV/1.0 to the letter of the course document, with one bug or with none.
'use strict';
const net = require('net');

const [port, bug] = [Number(process.argv[2]), process.argv[3]];
const store = new Map();
const counts = { open: 0, done: 0, GET: 0, PUT: 0, DEL: 0 };
const started = Date.now();
// Latin-1 keeps every byte as it is.
const coding = bug === 'utf8-per-recv' ? 'utf8' : 'latin1';

function stats() {
  const s = Math.floor((Date.now() - started) / 1000);
  const two = (n) => String(n).padStart(2, '0');
  return `200 OK uptime: ${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}; ` +
    `connections: ${counts.open}; commands_processed: ${counts.done}; get_requests: ${counts.GET}; ` +
    `put_requests: ${counts.PUT}; del_requests: ${counts.DEL}; keys_stored: ${store.size}`;
}

function answer(line) {
  const [version, command, key, ...rest] = line.replace(/\r$/, '').split(' ');
  const value = rest.join(' ');
  if (version !== 'KV/1.0') return '426 UPGRADE_REQUIRED';
  if (command === 'STATS' && key === undefined) return stats();
  if (command === 'QUIT' && key === undefined) return '200 OK bye';
  if (!key || (command === 'PUT' ? !value : rest.length > 0) || !(command in counts)) return '400 BAD_REQUEST';
  counts[command] += 1;
  const known = store.has(key);
  if (command === 'PUT') {
    if (!(bug === 'value-not-replaced' && known)) store.set(key, value);
    return known ? '200 OK' : '201 CREATED';
  }
  if (!known) return '404 NOT_FOUND';
  if (command === 'GET') return '200 OK ' + store.get(key);
  store.delete(key);
  return '204 NO_CONTENT';
}

net.createServer({ allowHalfOpen: true }, (socket) => {
  let buffer = '';
  counts.open += 1;
  socket.on('close', () => { counts.open -= 1; });
  socket.on('error', () => {});
  socket.on('end', () => socket.end());
  socket.on('data', (data) => {
    buffer += data.toString(coding);
    const lines = bug === 'recv-is-request' ? [buffer.replace(/\n$/, ''), ''] : buffer.split('\n');
    buffer = lines.pop();
    for (const line of lines) {
      const reply = answer(line);
      counts.done += 1;
      socket.write(reply + '\n', coding);
      if (reply === '200 OK bye') { socket.end(); socket.removeAllListeners('data'); return; }
    }
  });
}).listen(port, '127.0.0.1', 1024);
