/**
 * Plays a compromised endpoint: a real body starts it in place of its own, confined in the same way, and it tries
 * what it must not be able to do. It logs the results, in one line of JSON with `taken`.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { connect, createServer, Socket } from 'node:net'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { ENDPOINT_FD } from '../../../runtime/ipc.ts'
import { confineServer } from '../../../runtime/sdk/confined.ts'
import { SYSCALLS } from '../../../runtime/sdk/seccomp-tables.ts'

interface Targets {
  home: string
  /** pid of the robot's program */
  programPid: number
  bodyPid: number
  port: number
}

const PTRACE_ATTACH = 16
const CLONE_NEWUSER = 0x10000000
const S_IFCHR = 0o020000
const DEV_MEM = 0x101

/** Written by the test when the pids are known. */
async function targets(): Promise<Targets> {
  const file = new URL('targets.json', import.meta.url)
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 20))
  return JSON.parse(readFileSync(file, 'utf8')) as Targets
}

async function code(run: () => unknown): Promise<string> {
  try {
    const result = (await run()) as { error?: { code?: string } } | undefined
    return result?.error?.code ?? 'done'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

async function all(attempts: Record<string, () => unknown>): Promise<Record<string, string>> {
  const results: Record<string, string> = {}
  for (const [name, run] of Object.entries(attempts)) results[name] = await code(run)
  return results
}

const event = (emitter: NodeJS.EventEmitter, good: string): Promise<void> =>
  new Promise((resolve, reject) => emitter.once(good, () => resolve()).once('error', reject))

function attempts({ home, programPid, bodyPid, port }: Targets): Record<string, () => unknown> {
  const { x64, arm64 } = SYSCALLS
  const numbers = process.arch === 'x64' ? x64 : arm64
  const system = loadSystem()
  const path = (text: string) => Buffer.from(`${text}\0`)
  const read = (name: string) => () => readFileSync(name)
  return {
    identity: read(`${home}/identity/id_ed25519`),
    noise: read(`${home}/endpoint/noise.key`),
    age: read(`${home}/endpoint/age.key`),
    operators: read(`${home}/operators/allowed_signers`),
    store: () => readdirSync(`${home}/store`),
    slots: () => readdirSync(`${home}/slots`),
    homeOfBody: read(`/proc/${bodyPid}/root${home}/identity/id_ed25519`),
    homeOfInit: read(`/proc/1/root${home}/identity/id_ed25519`),
    writeHome: () => writeFileSync(`${home}/operators/allowed_signers`, 'mallory'),
    writeRuntime: () => writeFileSync(new URL('x', import.meta.url), 'x'),
    staged: read(`/proc/self/fd/${ENDPOINT_FD.firstStaged}`),
    programState: read(`/proc/${programPid}/fd/5`),
    programMemory: read(`/proc/${programPid}/mem`),
    memory: read('/dev/mem'),
    gpio: read('/dev/gpiochip0'),
    i2c: read('/dev/i2c-1'),
    device: () => system.bind('mknod', 'int', ['void*', 'uint', 'ulong'])(path('/tmp/mem'), S_IFCHR | 0o600, DEV_MEM),
    bodyMemory: read(`/proc/${bodyPid}/mem`),
    bodyEnvironment: read(`/proc/${bodyPid}/environ`),
    ptrace: () => system.syscall(numbers.ptrace, PTRACE_ATTACH, bodyPid),
    readv: () => system.syscall(numbers.process_vm_readv, bodyPid, 0, 0, 0, 0, 0),
    killBody: () => process.kill(bodyPid, 'SIGKILL'),
    killProgram: () => process.kill(programPid, 'SIGKILL'),
    killAll: () => process.kill(-1, 'SIGKILL'),
    setuid: () => process.setuid?.(0),
    setgroups: () => process.setgroups?.([0]),
    namespace: () => system.syscall(numbers.unshare, CLONE_NEWUSER),
    chroot: () => system.bind('chroot', 'int', ['void*'])(path('/proc/self/root')),
    mount: () => system.syscall(numbers.mount, 0, 0, 0, 0, 0),
    bpf: () => system.syscall(numbers.bpf, 0, 0, 0),
    keys: () => system.syscall(numbers.keyctl, 0, 0, 0),
    module: () => system.syscall(numbers.finit_module, 0, 0, 0),
    spawn: () => spawnSync('/usr/bin/id'),
    connect: () => event(connect(port, '127.0.0.1'), 'connect'),
    listen: () => event(createServer().listen(0, '127.0.0.1'), 'listening'),
  }
}

/** The body's answer to a push of 4 KiB of rubbish in the first staging file. */
function pushRubbish(): Promise<unknown> {
  writeSync(ENDPOINT_FD.firstStaged, Buffer.alloc(4096, 7), 0, 4096, 0)
  const pusher = `SHA256:${'A'.repeat(43)}`
  const message = {
    op: 'install',
    id: 1,
    // main may still be starting
    slot: 'other',
    staged: 0,
    length: 4096,
    pusher,
    order: null,
  }
  return new Promise((resolve) => {
    let held = ''
    link.on('data', (text: string) => {
      held += text
      const error = held
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
        .find(({ op }) => op === 'error')
      if (error !== undefined) resolve(error.error.code)
    })
    link.write(`${JSON.stringify(message)}\n`)
  })
}

const link = new Socket({ fd: ENDPOINT_FD.body, readable: true, writable: true })
let held = ''
link.setEncoding('utf8').on('data', async (text: string) => {
  held += text
  if (!held.includes('\n')) return
  link.removeAllListeners('data')
  const config = JSON.parse(held.slice(0, held.indexOf('\n')))
  confineServer(config.confine)
  // drops its keys first, which must not be in the messages either
  const { keys, ...told } = config
  const status = readFileSync('/proc/self/status', 'utf8')
  const processes = readdirSync('/proc').filter((name) => /^\d/.test(name))
  const tried = await all(attempts(await targets()))
  const about = { told, environment: Object.keys(process.env).sort(), argv: process.argv.slice(2), status }
  const root = readdirSync('/')
  const rubbish = await pushRubbish()
  writeSync(2, '\x1b[2Jnot JSON\n')
  writeSync(
    2,
    `${JSON.stringify({ taken: { ...about, tried, rubbish, processes, root, keys: Object.keys(keys).sort() } })}\n`,
  )
})
