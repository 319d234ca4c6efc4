/**
 * Installs the filter in this process, makes calls, and prints their results. Descriptors 11 and 12 stand for granted ones. Built
 * and started by seccomp.test.ts.
 */
import { fork, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { gunzipSync, gzipSync } from 'node:zlib'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { encode } from '../../../../runtime/sdk/bpf.ts'
import { install } from '../../../../runtime/sdk/confined.ts'
import { type Arch, filter, IOCTL } from '../../../../runtime/sdk/seccomp.ts'
import { SYSCALLS, type Syscall } from '../../../../runtime/sdk/seccomp-tables.ts'

const [LINE, I2C] = [11, 12]
const PR_SET_NO_NEW_PRIVS = 38
const arch = process.arch as Arch
const what = process.argv[2] ?? ''

async function main(): Promise<void> {
  const system = loadSystem()
  const early = await thread()
  system.prctl(PR_SET_NO_NEW_PRIVS, 1)
  const grants = [
    { fd: LINE, kind: 'input', encoding: 'line' },
    { fd: I2C, kind: 'i2c', encoding: 'i2c' },
  ] as const
  install(arch, encode(filter({ arch, grants, network: false })))
  const result = what === 'calls' ? await calls(early) : what === 'node' ? await node() : native(what)
  await early.terminate()
  process.stdout.write(JSON.stringify(result))
}

const WORKER = `
const { parentPort, workerData } = require('node:worker_threads')
const koffi = require(workerData + 'koffi')
const ioctl = koffi.load(null).func('ioctl', 'int', ['int', 'ulong', 'void*'])
parentPort.on('message', () => {
  ioctl(12, 0x0703, new Uint8Array(8))
  parentPort.postMessage(koffi.os.errno.EPERM === koffi.errno() ? 'EPERM' : String(koffi.errno()))
})
parentPort.postMessage('ready')`

/** The worker has loaded its addon. A worker that is terminated before would end the process. */
async function thread(): Promise<Worker> {
  const worker = new Worker(WORKER, { eval: true, workerData: new URL('node_modules/', import.meta.url).pathname })
  await once(worker, 'message')
  return worker
}

async function asked(worker: Worker): Promise<string> {
  const answer = new Promise<string>((done) => worker.once('message', done))
  worker.postMessage('')
  return answer
}

async function calls(early: Worker): Promise<Record<string, string>> {
  const system = loadSystem()
  const some = new Uint8Array(512)
  const tried = (run: () => unknown): string => {
    try {
      return String(run())
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  const syscall = (name: Syscall, ...args: (number | bigint | Uint8Array)[]) =>
    tried(() => system.syscall((SYSCALLS[arch] as Record<string, number>)[name] as number, ...args))
  const ioctl = (fd: number, request: number) => tried(() => system.ioctl(fd, request, some))
  const late = await thread()
  const code = `const k=require('${new URL('node_modules/koffi', import.meta.url).pathname}');
    const f=k.load(null).func('ioctl','int',['int','ulong','void*']);f(12,0x0703,new Uint8Array(8));
    console.log(k.errno()===k.os.errno.EPERM?'EPERM':k.errno())`
  const child = spawnSync(process.execPath, ['-e', code], {
    stdio: ['ignore', 'pipe', ...Array<'inherit'>(I2C - 1).fill('inherit')],
  })
  const results = {
    'SET_CONFIG on a line': ioctl(LINE, 0xc110b40d),
    'GET_VALUES on a line': ioctl(LINE, IOCTL.lineGet),
    'I2C_SLAVE on i2c': ioctl(I2C, 0x0703),
    'SMBUS on i2c': ioctl(I2C, IOCTL.smbus),
    'TIOCSTI elsewhere': ioctl(1, 0x5412),
    'FIONREAD elsewhere': ioctl(0, 0x541b),
    'read of a line': tried(() => readSync(LINE, some)),
    'read of i2c': tried(() => readSync(I2C, some)),
    'dup of i2c': syscall('dup', I2C),
    'F_SETFL on i2c': syscall('fcntl', I2C, 4, 0o4000),
    ptrace: syscall('ptrace', 0),
    pidfd_getfd: syscall('pidfd_getfd', 0, 0),
    unshare: syscall('unshare', 0x10000000),
    'clone into a user namespace': syscall('clone', 0x10000000 | 17),
    clone3: syscall('clone3'),
    io_uring_setup: syscall('io_uring_setup'),
    bpf: syscall('bpf'),
    mount: syscall('mount'),
    'socket AF_UNIX': syscall('socket', 1, 1, 0),
    'socket AF_INET': syscall('socket', 2, 1, 0),
    PR_SET_PDEATHSIG: syscall('prctl', 1, 0),
    'x32 getpid': arch === 'x64' ? tried(() => system.syscall(0x40000000 + 39)) : 'EPERM',
    'thread that was there before': await asked(early),
    'thread made afterwards': await asked(late),
    child: String(child.stdout).trim(),
  }
  await late.terminate()
  return results
}

async function node(): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-filtered-'))
  const [file, copy] = [join(folder, 'a'), join(folder, 'b')]
  writeFileSync(file, 'hello')
  copyFileSync(file, copy)
  const worker = new Worker(`require('node:worker_threads').parentPort.postMessage('pong')`, { eval: true })
  const fromWorker = new Promise<string>((done) => worker.once('message', done))
  const forked = fork(fileURLToPath(import.meta.url), ['pong'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const fromFork = new Promise<string>((done) => forked.once('message', (text) => done(String(text))))
  forked.send('ping')
  const result = {
    file: readFileSync(file, 'utf8'),
    copy: readFileSync(copy, 'utf8'),
    async: await readFile(file, 'utf8'),
    timer: await sleep(5, 'late'),
    random: String(randomBytes(8).length),
    zlib: String(gunzipSync(gzipSync('hello'))),
    worker: await fromWorker,
    fork: await fromFork,
    spawn: String(spawnSync('sh', ['-c', 'echo out'], { stdio: ['ignore', 'pipe', 'ignore'] }).stdout),
    address: await new Promise<string>((done) => {
      connect(9, '127.0.0.1').on('error', (error) => done((error as { code?: string }).code ?? ''))
    }),
  }
  rmSync(folder, { recursive: true })
  return result
}

const native = (file: string) => ({ ended: spawnSync(file, { stdio: 'ignore' }).signal ?? 'well' })

if (what === 'pong') process.on('message', () => process.send?.('pong', () => process.disconnect()))
else await main()
