/**
 * Tries every kind of effect behind the gate. Arguments: `FOLDER SITUATION`. Prints one line of JSON with the outcome of
 * each, `{ name: 'came back' | 'refused: CODE' }`. Effects without any outcome are absent.
 */
import childProcess, { execFileSync, execSync, spawn, spawnSync } from 'node:child_process'
import dgram from 'node:dgram'
import { EventEmitter, once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { setImmediate as immediate, setInterval as intervals, setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { installGate } from '../../../../runtime/sdk/effects.ts'
import { Gate } from '../../../../runtime/sdk/gate.ts'

const [folder = '', situation = ''] = process.argv.slice(2)
// taken before the gate is installed, for the report
const { writeFileSync, writeSync } = fs
const realTimeout = setTimeout

type Effect = (back: (error?: unknown) => void) => unknown

const at = (name: string) => join(folder, `${situation}-${name}`)
const server = http.createServer((_, answer) => answer.end())
await once(server.listen(0, '127.0.0.1'), 'listening')
const { port } = server.address() as net.AddressInfo
writeFileSync(join(folder, 'there'), 'there')
const log = fs.openSync(join(folder, `${situation}-log`), 'w')
const outlives = new EventEmitter()
let resolveLater = (): void => {}
const later = new Promise<void>((resolve) => {
  resolveLater = resolve
})

const EFFECTS: Record<string, Effect> = {
  setTimeout: (back) => setTimeout(back, 1),
  setInterval: (back) => setInterval(back, 1),
  setImmediate: (back) => setImmediate(back),
  'timers/promises setTimeout': (back) => sleep(1).then(back),
  'timers/promises setImmediate': (back) => immediate().then(back),
  'timers/promises setInterval': async (back) => {
    for await (const _ of intervals(1)) return back()
  },
  'promisified setTimeout': (back) => promisify(setTimeout)(1).then(back),
  'net.connect': (back) => net.connect(port, '127.0.0.1', back),
  'http.get': (back) => http.get({ port }, (answer) => answer.resume().on('end', back)).on('error', () => {}),
  'http.get of a full pool': async (back) => {
    const agent = new http.Agent({ maxSockets: 1 })
    for (let i = 0; i < 3; i++) http.get({ port, agent }, (answer) => answer.resume()).on('error', () => {})
    http.get({ port, agent }, (answer) => answer.resume().on('end', back)).on('error', () => {})
  },
  fetch: (back) => fetch(`http://127.0.0.1:${port}/`).then(back),
  'server.listen': (back) => net.createServer().listen(0, back),
  'http server.listen': (back) => http.createServer().listen(0, back),
  'unix server.listen': (back) => net.createServer().listen(at('socket'), back),
  'dgram.bind': (back) => dgram.createSocket('udp4').bind(0, back),
  'dgram.send': (back) => dgram.createSocket('udp4').send('x', port, '127.0.0.1', back),
  spawn: (back) =>
    spawn('touch', [at('spawn')])
      .on('exit', back)
      .stdout?.on('data', () => {}),
  exec: (back) => childProcess.exec('true', back),
  fork: (back) =>
    childProcess
      .fork('none', { stdio: 'ignore' })
      .on('exit', back)
      .send('x', () => {}),
  execSync: (back) => execSync('echo x', { encoding: 'utf8' }) === 'x\n' && back(),
  execFileSync: (back) => execFileSync('echo', ['x']).length === 2 && back(),
  spawnSync: (back) => spawnSync('echo', ['x']).stdout.length === 2 && back(),
  Worker: (back) => {
    const worker = new Worker('', { eval: true }).on('exit', back)
    worker.postMessage('x')
    worker.stdout.on('data', () => {})
  },
  'a class over Worker': (back) => new (class Mine extends Worker {})('', { eval: true }).on('exit', back).unref(),
  writeFileSync: () => fs.writeFileSync(at('writeFileSync'), 'x'),
  appendFileSync: () => fs.appendFileSync(at('appendFileSync'), 'x'),
  mkdirSync: () => fs.mkdirSync(at('mkdirSync'), { recursive: true }),
  mkdtempSync: () => typeof fs.mkdtempSync(at('mkdtempSync')),
  copyFileSync: () => fs.copyFileSync(join(folder, 'there'), at('copyFileSync')),
  symlinkSync: () => fs.symlinkSync('there', at('symlinkSync')),
  'openSync for writing': () => {
    const fd = fs.openSync(at('openSync'), 'w')
    fs.writeSync(fd, 'x')
    fs.closeSync(fd)
  },
  writeFile: (back) => fs.writeFile(at('writeFile'), 'x', back),
  'promises.writeFile': (back) => fs.promises.writeFile(at('promises.writeFile'), 'x').then(() => back(), back),
  'promises.open': (back) =>
    fs.promises.open(at('promises.open'), 'w').then((file) => file.close().then(() => back()), back),
  createWriteStream: (back) => fs.createWriteStream(at('createWriteStream')).on('error', back).end('x', back),
  'a file that was open': () => fs.writeSync(log, 'x'),
  'promises.readFile': (back) => fs.promises.readFile(join(folder, 'there')).then(() => back()),
  'fs.readFile': (back) => fs.readFile(join(folder, 'there'), () => back()),
  readFileSync: (back) => fs.readFileSync(join(folder, 'there'), 'utf8') === 'there' && back(),
  'fs.watch': (back) => fs.watch(folder, () => back()).unref(),
  'process.kill': (back) => {
    process.once('SIGUSR2', back)
    process.kill(process.pid, 'SIGUSR2')
  },
  'a listener of something that outlives': (back) => outlives.on('late', back),
  'a listener of a signal': (back) => process.on('SIGWINCH', back),
  'an abort signal': (back) => AbortSignal.timeout(1).addEventListener('abort', back),
  'what was made before': (back) => later.then(() => setTimeout(back, 1)),
  'a rejection': () => void Promise.reject(new Error('rejected')),
  'an exception in nextTick': () =>
    process.nextTick(() => {
      throw new Error('thrown')
    }),
  'an exception in a microtask': () =>
    queueMicrotask(() => {
      throw new Error('thrown')
    }),
  'console.log': () => console.log('NOISE'),
  'stdout.write': () => process.stdout.write('NOISE\n'),
}

const results: Record<string, string> = {}
const gate = new Gate('loading')
installGate(gate, 3)
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error: { code?: string }) => {
    if (gate.round === undefined) results[`uncaught ${error}`] = 'came back'
  })
}

function act(): void {
  for (const [name, effect] of Object.entries(EFFECTS)) {
    const back = (error?: unknown) => {
      const { code } = Object(error) as { code?: unknown }
      results[name] = typeof code === 'string' ? `refused: ${code}` : 'came back'
    }
    try {
      Promise.resolve(effect(back)).catch(back)
    } catch (error) {
      back(error)
    }
  }
}

if (situation === 'rehearsal') for (let i = 0; i < 5; i++) gate.rehearse(act)
// after the top level, which may wait for its timers
if (situation !== 'rehearsal') await gate.loading(Promise.resolve())
if (situation === 'live') gate.enter()
if (situation !== 'rehearsal') act()
if (situation === 'live' || situation === 'rehearsal') gate.open()

// effects that show only by a file, a line or an exception
const silent =
  /^(?:write|append|mkdir|mkdtemp|copy|symlink)\w*Sync$|^openSync|^console|^stdout|^a file|^a rejection|^an exception/
const all = Object.keys(EFFECTS).filter((name) => !silent.test(name))
const moment = () => new Promise<void>((resolve) => realTimeout(resolve, 500))
const afterwards = ['what was made before', 'a listener of something that outlives', 'a listener of a signal']
// live: wait until all effects came back; otherwise wait a fixed time
do await moment()
while (situation === 'live' && all.some((name) => !afterwards.includes(name) && results[name] === undefined))
resolveLater()
outlives.emit('late')
process.emit('SIGWINCH')
do await moment()
while (situation === 'live' && all.some((name) => results[name] === undefined))
const kept = { listeners: outlives.listenerCount('late') + process.listenerCount('SIGWINCH') }
const files = fs.readdirSync(folder).filter((name) => name.startsWith(`${situation}-`))
const logged = fs.readFileSync(join(folder, `${situation}-log`), 'utf8')
writeSync(1, `\n${JSON.stringify({ all, results, kept, files, logged })}\n`)
process.exit(0)
