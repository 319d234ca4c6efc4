/**
 * Starts a machine for one command. The command's output comes through one port for each stream, so that no line of the
 * kernel's console mixes with it; a third port reports how the command ended.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BuildError } from '../../../pi-image/tools/error.mjs'
import { cpio } from './cpio.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const ROOT = join(HERE, '../../..').replace(/\/$/, '')

const BUSYBOX = '/bin/busybox'
const APPLETS =
  'cat chroot cp echo hostname ifconfig insmod kill ln ls mkdir mkfifo mount poweroff reboot setsid sh sleep stty switch_root'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** Number of console lines that are shown when a machine fails. */
const CONSOLE_LINES = 40

/**
 * Runs `command` in the guest. Resolves with how it ended: the exit code, or that the time was over, or that the command
 * said nothing for too long (with what the machine looked like then), or that the rig itself failed, with the end of the
 * guest's console.
 *
 * @param {import('./choose.mjs').Machine} machine
 * @param {{ kernel: string, initrd: string }} image
 * @param {{ command: string[], cwd: string, env: Record<string, string>, timeoutMs: number, silentMs?: number,
 *   share?: string, cpus: number, forward?: { host: number, guest: number } }} task
 * @param {{ stdout: NodeJS.WritableStream, stderr: NodeJS.WritableStream }} streams
 * @returns {Promise<{ kind: 'exit', code: number, console?: string } | { kind: 'interrupted' } | { kind: 'silent', evidence: string }
 *   | { kind: 'timeout', reason: string, console: string }
 *   | { kind: 'failed', reason: string, isStarted: boolean, console: string }>}
 */
export async function boot(machine, image, task, streams) {
  const interruption = new AbortController()
  const interrupt = () => interruption.abort()
  // before anything is made: an interrupted start leaves neither a folder nor a guest
  for (const signal of SIGNALS) process.on(signal, interrupt)
  // an error here: the reader of the command's output has ended
  for (const stream of [streams.stdout, streams.stderr]) stream.on('error', interrupt)
  const folder = mkdtempSync(join(tmpdir(), 'rig-'))
  try {
    return await run(machine, image, task, streams, folder, interruption.signal)
  } finally {
    rmSync(folder, { recursive: true, force: true })
    for (const signal of SIGNALS) process.removeListener(signal, interrupt)
  }
}

async function run(machine, image, task, streams, folder, interrupted) {
  const initrd = join(folder, 'initrd')
  // The kernel unpacks one archive after the other, each from a multiple of 4; of two files with one name the last counts.
  const modules = readFileSync(image.initrd)
  const padding = Buffer.alloc((4 - (modules.length % 4)) % 4)
  writeFileSync(initrd, Buffer.concat([modules, padding, cpio([...base(), ...taskFiles(task)])]))
  const consoleLog = join(folder, 'console')
  closeSync(openSync(consoleLog, 'w'))
  let status = ''
  let silence
  let isHeard = false
  const heard = (take) => (bytes) => {
    isHeard = true
    silence?.refresh()
    take(bytes)
  }
  const guest = await machine.start(
    { kernel: image.kernel, initrd, folder, consoleLog, task },
    {
      stdout: heard((bytes) => streams.stdout.write(bytes)),
      stderr: heard((bytes) => streams.stderr.write(bytes)),
      status: (bytes) => {
        status += bytes.toString()
      },
    },
  )
  const stops = { late: false, evidence: undefined }
  if (interrupted.aborted) guest.kill()
  interrupted.addEventListener('abort', guest.kill)
  const timer = setTimeout(() => {
    stops.late = true
    guest.kill()
  }, task.timeoutMs)
  if (task.silentMs !== undefined) {
    silence = setTimeout(() => {
      clearTimeout(timer)
      // only once, also when more output comes meanwhile
      silence = undefined
      stops.evidence = guest.evidence().catch((error) => `(none: ${error.message})`)
      stops.evidence.then(guest.kill)
    }, task.silentMs)
  }
  try {
    await guest.ended
    if (stops.evidence !== undefined && !interrupted.aborted) {
      return { kind: 'silent', evidence: await stops.evidence }
    }
  } finally {
    clearTimeout(timer)
    clearTimeout(silence)
  }
  const code = /^exit (\d+)$/m.exec(status)?.[1]
  const shown = readFileSync(consoleLog, 'utf8').split('\n').slice(-CONSOLE_LINES).join('\n')
  // when the command failed without output, the kernel's console may show why
  if (code !== undefined)
    return { kind: 'exit', code: Number(code), ...(!isHeard && code !== '0' && { console: shown }) }
  if (interrupted.aborted) return { kind: 'interrupted' }
  if (stops.late) return { kind: 'timeout', reason: `no end within ${task.timeoutMs / 1000} s`, console: shown }
  const isStarted = /^started$/m.test(status)
  const ended = isStarted
    ? 'the guest ended without saying how the command ended'
    : 'the guest ended before it started the command'
  const reason = /^failed (.*)$/m.exec(status)?.[1] ?? ended
  return { kind: 'failed', reason, isStarted, console: shown }
}

/** The initial RAM disk of every guest: process 1, and busybox under the names that it uses. */
function base() {
  if (!existsSync(BUSYBOX)) throw new BuildError(`there is no ${BUSYBOX}`, 'apt-get install busybox-static')
  return [
    { path: 'dev/console', mode: 0o20600, device: [5, 1] },
    { path: 'proc', mode: 0o40755 },
    { path: 'sys', mode: 0o40755 },
    // switch_root requires the name /init
    { path: 'init', mode: 0o100755, data: readFileSync(join(HERE, 'init.sh')) },
    { path: 'run/rig/bin/busybox', mode: 0o100755, data: readFileSync(BUSYBOX) },
    ...APPLETS.split(' ').map((name) => ({ path: `run/rig/bin/${name}`, mode: 0o120777, data: 'busybox' })),
  ]
}

/** The files in /run/rig that differ from run to run. */
function taskFiles({ command, cwd, env, share, forward }) {
  const lines = [
    ...Object.entries(env).map(([key, value]) => `export ${key}=${quoted(value)}`),
    `cd ${quoted(cwd)} || exit 127`,
    `exec ${command.map(quoted).join(' ')}`,
  ]
  const kept = [...new Set([ROOT, cwd])].filter((path) => path.startsWith('/tmp/'))
  const relay = [process.execPath, join(HERE, 'forward.mjs'), '/dev/ttyS3', String(forward?.guest)]
  return [
    { path: 'run/rig/command', mode: 0o100755, data: `${lines.join('\n')}\n` },
    { path: 'run/rig/kept', mode: 0o100644, data: kept.map((path) => `${path}\n`).join('') },
    { path: 'run/rig/shares', mode: 0o100644, data: share === undefined ? '' : `out ${share}\n` },
    { path: 'run/rig/forward', mode: 0o100755, data: forward === undefined ? '' : relay.map(quoted).join(' ') },
  ]
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
