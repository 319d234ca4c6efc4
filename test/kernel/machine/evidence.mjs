/**
 * Collects the state of a silent guest before it is ended: the threads of the machine on the host, and the kernel's own stacks,
 * threads, locks, timers and clock (magic SysRq, Documentation/admin-guide/sysrq.rst). Of QEMU also the registers of every processor
 * twice a second apart (do they move?) and the queues of its virtio devices.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Names of the sockets in the guest's folder, and of the character devices behind them. */
export const MONITOR = { monitor: 'monitor', console: 'console-line' }

const ANSWER_MS = 500
/** Long, because the list of all threads goes through an emulated UART. */
const SYSRQ_MS = 60_000
/** A busy host may pause the guest in the middle of a list. In user-mode Linux a list comes in one write. */
const QUIET_MS = { qemu: 7000, uml: 1000 }
/** Number of queried virtqueues of a device. */
const QUEUES = 8

const SYSRQ = [
  ['9', 'console level 9'],
  ['l', 'stacks of all processors'],
  ['q', 'timers and clock'],
  ['w', 'threads that wait uninterruptibly'],
  ['t', 'all threads'],
  ['q', 'timers and clock, a second time'],
  ['l', 'stacks of all processors, a second time'],
]

/** @returns {Promise<string>} a text of sections; a section that could not be read has the error instead */
export async function qemuEvidence(folder, consoleLog, pid) {
  const { section, askKernel, text } = collect(consoleLog)
  const monitor = (line) => ask(join(folder, MONITOR.monitor), line)
  await section("QEMU's threads: state, processor time in ticks, where they wait", async () => threads(pid))
  for (const time of ['first', 'second']) {
    await section(`registers, ${time} time`, () => monitor('info registers -a'))
    await sleep(1000)
  }
  await section("QEMU's threads, again", async () => threads(pid))
  await section('processors', () => monitor('info cpus'))
  await section('interrupt counts', () => monitor('info irq'))
  await section('virtio queues', () => queues(monitor))
  const line = await open(join(folder, MONITOR.console)).catch(() => undefined)
  line?.resume()
  await askKernel(QUIET_MS.qemu, async (key) => {
    await monitor(`chardev-send-break ${MONITOR.console}`)
    line?.write(key)
  })
  line?.destroy()
  return text()
}

/** `send` gives a SysRq key to process 1 of the guest, which passes it on: a guest that is out of order does not answer. */
export async function umlEvidence(consoleLog, pid, send) {
  const { section, askKernel, text } = collect(consoleLog)
  for (const time of ['first', 'second']) {
    await section(`the machine's threads on the host, ${time} time`, async () => threadsBelow(pid))
    await sleep(1000)
  }
  await askKernel(QUIET_MS.uml, async (key) => send(key))
  return text()
}

/** A text that grows section by section, with what the console showed before and shows after. */
function collect(consoleLog) {
  const from = statSync(consoleLog).size
  const parts = [`== the console until then\n${readFileSync(consoleLog).toString()}`]
  const section = async (title, ask) => {
    const text = await ask().catch((error) => `(not to be had: ${error.message})`)
    parts.push(`== ${title} (${new Date().toISOString()})\n${text.trim()}\n`)
  }
  const askKernel = async (quietMs, send) => {
    for (const [key, what] of SYSRQ) {
      await section(`asked the kernel: ${what}`, async () => {
        await send(key)
        await quiet(consoleLog, quietMs)
        return ''
      })
    }
  }
  const text = () =>
    [...parts, `== the console since then\n${readFileSync(consoleLog).subarray(from).toString()}`].join('\n')
  return { section, askKernel, text }
}

/** Threads of the process and of all below it: those of bwrap, the kernel, and each process of the guest. */
function threadsBelow(pid) {
  const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const parents = new Map(names.map((name) => [Number(name), Number(fields(`/proc/${name}`)[1])]))
  const below = (top) => [
    top,
    ...[...parents].filter(([, parent]) => parent === top).flatMap(([child]) => below(child)),
  ]
  return below(pid).map(threads).join('\n')
}

/** The fields from the third on, after the name of the process, which may have spaces. */
function fields(folder) {
  return read(`${folder}/stat`)
    .replace(/^.*\) /, '')
    .split(' ')
}

function read(path) {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return '?'
  }
}

/** From /proc/PID/task/N/stat (proc_pid_stat(5)): state, utime and stime are the fields 3, 14 and 15. */
function threads(pid) {
  const tasks = existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : []
  const lines = tasks.map((task) => {
    const folder = `/proc/${pid}/task/${task}`
    const [comm, wchan, syscall] = ['comm', 'wchan', 'syscall'].map((name) => read(`${folder}/${name}`))
    const stat = fields(folder)
    return `${task} ${comm} ${stat[0]} user ${stat[11]} system ${stat[12]} ${wchan} ${syscall}`
  })
  return lines.join('\n')
}

/** Requests in flight: those that the device has taken and not returned (`inuse`), or that it has not taken yet. */
async function queues(monitor) {
  const paths = [...(await monitor('info virtio')).matchAll(/^(\/\S+)/gm)].map(([, path]) => path)
  const texts = []
  for (const path of paths) {
    for (let queue = 0; queue < QUEUES; queue++) {
      const text = await monitor(`info virtio-queue-status ${path} ${queue}`)
      if (!text.includes('inuse')) break
      texts.push(text)
    }
  }
  return texts.join('\n')
}

/** Sends one command to QEMU's monitor, and returns its answer. */
async function ask(path, line) {
  const socket = await open(path)
  let text = ''
  socket.setEncoding('utf8').on('data', (more) => {
    text += more
  })
  await sleep(ANSWER_MS)
  text = ''
  socket.write(`${line}\n`)
  await sleep(ANSWER_MS)
  socket.destroy()
  // without the echo of the command line, which comes character by character with cursor codes
  return text
    .split('\n')
    .slice(1)
    .join('\n')
    .replace(/\(qemu\).*$/, '')
}

function open(path) {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Waits until the file has not grown for a while. */
async function quiet(path, quietMs) {
  let size = -1
  for (const until = Date.now() + SYSRQ_MS; Date.now() < until && statSync(path).size !== size; ) {
    size = statSync(path).size
    await sleep(quietMs)
  }
}
