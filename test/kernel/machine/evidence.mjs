/**
 * Collects the state of a silent QEMU guest before it is ended: registers of every processor twice a second
 * apart (do they move?), the kernel's own stacks, threads, locks, timers and clock (magic SysRq over a break on the
 * console, Documentation/admin-guide/sysrq.rst), the queues of its virtio devices, and QEMU's own threads.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Names of the sockets in the guest's folder, and of the character devices behind them. */
export const MONITOR = { monitor: 'monitor', console: 'console-line' }

const ANSWER_MS = 500
/** Long, because the list of all threads goes through an emulated UART. */
const SYSRQ_MS = 60_000
/** A busy host may pause the guest in the middle of a list. */
const QUIET_MS = 7000
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
export async function evidence(folder, consoleLog, pid) {
  const parts = []
  const section = async (title, ask) => {
    const text = await ask().catch((error) => `(not to be had: ${error.message})`)
    parts.push(`== ${title} (${new Date().toISOString()})\n${text.trim()}\n`)
  }
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
  const from = statSync(consoleLog).size
  const line = await open(join(folder, MONITOR.console)).catch(() => undefined)
  line?.resume()
  for (const [letter, what] of SYSRQ) {
    await section(`asked the kernel: ${what}`, async () => {
      await monitor(`chardev-send-break ${MONITOR.console}`)
      line?.write(letter)
      await quiet(consoleLog, SYSRQ_MS)
      return ''
    })
  }
  line?.destroy()
  parts.push(`== the console since then\n${readFileSync(consoleLog).subarray(from).toString()}`)
  return parts.join('\n')
}

/** From /proc/PID/task/N/stat (proc_pid_stat(5)): state, utime and stime are the fields 3, 14 and 15. */
function threads(pid) {
  const lines = readdirSync(`/proc/${pid}/task`).map((task) => {
    const read = (name) => {
      try {
        return readFileSync(`/proc/${pid}/task/${task}/${name}`, 'utf8').trim()
      } catch {
        return '?'
      }
    }
    const [state, ...fields] = read('stat')
      .replace(/^.*\) /, '')
      .split(' ')
    return `${task} ${read('comm')} ${state} user ${fields[10]} system ${fields[11]} ${read('wchan')} ${read('syscall')}`
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
async function quiet(path, most) {
  let size = -1
  for (const until = Date.now() + most; Date.now() < until && statSync(path).size !== size; ) {
    size = statSync(path).size
    await sleep(QUIET_MS)
  }
}
