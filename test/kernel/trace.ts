/**
 * Records accesses of all processes to the hardware, by the kernel's tracing. Each trace is an instance of ftrace with a
 * separate buffer (Documentation/trace/ftrace.rst, kprobetrace.rst), so traces do not mix.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { gpioBase, type Level } from './guest.ts'

const TRACING = '/sys/kernel/tracing'
const GROUP = 'medulla'
const BUFFER_KB = 8192

interface Common {
  readonly process: string
  readonly pid: number
  /** Microseconds of CLOCK_MONOTONIC. */
  readonly us: number
}

export type TraceEvent = Common &
  (
    | { readonly what: 'level'; readonly line: number; readonly action: 'set' | 'get'; readonly level: Level }
    | { readonly what: 'direction'; readonly line: number; readonly direction: 'in' | 'out' }
    /** Any open of a device node (`gpiochip0`, `i2c-1`, `spidev0.0`), by whatever path. */
    | { readonly what: 'open'; readonly name: string }
    /** An open by a path below /sys/class/gpio or /sys/class/pwm. */
    | { readonly what: 'open-path'; readonly path: string }
    /** Lines requested, released or reconfigured by the character device. */
    | { readonly what: 'request' | 'release' | 'configure' }
    /** A line exported or unexported in sysfs. */
    | { readonly what: 'export' | 'unexport' }
    | { readonly what: 'pwm'; readonly periodNs: number; readonly dutyNs: number; readonly enabled: boolean }
  )

/** Probes at the entry of kernel functions: name, function, what to fetch, filter. */
const PROBES = [
  { name: 'open_gpiochip', at: 'gpio_chrdev_open', fetch: 'name=$arg2:%pD' },
  { name: 'open_i2c', at: 'i2cdev_open', fetch: 'name=$arg2:%pD' },
  { name: 'open_spi', at: 'spidev_open', fetch: 'name=$arg2:%pD' },
  {
    name: 'open_path',
    at: 'do_sys_openat2',
    fetch: 'path=+0($arg2):ustring',
    filter: 'path ~ "/sys/class/gpio*" || path ~ "/sys/class/pwm*"',
  },
  { name: 'request', at: 'linereq_create' },
  { name: 'request_v1', at: 'linehandle_create' },
  { name: 'release', at: 'linereq_release' },
  { name: 'configure', at: 'linereq_set_config' },
  { name: 'export', at: 'gpiod_export' },
  { name: 'unexport', at: 'gpiod_unexport' },
] as const

const EVENTS = ['gpio', 'pwm/pwm_apply', GROUP]

export interface Trace {
  /** Events so far, in order. Throws when the buffer overflowed. */
  events(): TraceEvent[]
  /** Drops the events so far. */
  clear(): void
  /** Ends the trace and returns its events. */
  stop(): TraceEvent[]
}

let traces = 0

/** Starts recording. Earlier opens are not in the trace, but operations on open files are. */
export function trace(): Trace {
  defineProbes()
  traces += 1
  const folder = `${TRACING}/instances/${GROUP}-${process.pid}-${traces}`
  mkdirSync(folder)
  const set = (name: string, value: string) => writeFileSync(`${folder}/${name}`, value)
  // by thread group, as Node also opens files in threads of its pool
  set('options/record-tgid', '1')
  set('trace_clock', 'mono')
  set('buffer_size_kb', String(BUFFER_KB))
  for (const probe of PROBES) if ('filter' in probe) set(`events/${GROUP}/${probe.name}/filter`, probe.filter)
  for (const event of EVENTS) set(`events/${event}/enable`, '1')

  const events = () => {
    for (const cpu of readdirSync(`${folder}/per_cpu`)) {
      const lost = /^overrun: (\d+)/m.exec(readFileSync(`${folder}/per_cpu/${cpu}/stats`, 'utf8'))?.[1]
      if (lost !== '0') throw new Error(`expected a whole trace, got one that lost ${lost} events`)
    }
    const lines = readFileSync(`${folder}/trace`, 'utf8').split('\n')
    return lines.filter((line) => line !== '' && !line.startsWith('#')).map(parse)
  }
  return {
    events,
    clear: () => set('trace', ''),
    stop() {
      for (const event of EVENTS) set(`events/${event}/enable`, '0')
      const all = events()
      rmdirSync(folder)
      return all
    },
  }
}

/**
 * Switches every event on, for good, in an unread instance. To be called before the machine is busy: the kernel rewrites
 * its own code when an event gets its first listener, and QEMU can lose such a rewrite on another processor, which is the
 * end of the guest. Later traces rewrite nothing.
 */
export function holdTracepoints(): void {
  const folder = `${TRACING}/instances/${GROUP}-hold`
  if (existsSync(folder)) return
  defineProbes()
  mkdirSync(folder)
  writeFileSync(`${folder}/buffer_size_kb`, '4')
  for (const event of EVENTS) writeFileSync(`${folder}/events/${event}/enable`, '1')
}

function defineProbes(): void {
  for (const probe of PROBES) {
    if (existsSync(`${TRACING}/events/${GROUP}/${probe.name}`)) continue
    const fetch = 'fetch' in probe ? ` ${probe.fetch}` : ''
    writeFileSync(`${TRACING}/kprobe_events`, `p:${GROUP}/${probe.name} ${probe.at}${fetch}\n`, { flag: 'a' })
  }
}

/** `  node-123  (  123) [001] d..2.  12.345678: gpio_value: 529 set 1` */
const LINE = /^ *(.+)-\d+ +\( *(\d+|-+)\) +\[\d+\] +\S+ +(\d+)\.(\d{6}): (\w+): (.*)$/

function parse(text: string): TraceEvent {
  const match = LINE.exec(text)
  if (match === null) throw new Error(`expected a line of a trace, got ${JSON.stringify(text)}`)
  const [, name = '', pid = '', seconds, micros, event = '', rest = ''] = match
  const common = { process: name, pid: Number(pid) || 0, us: Number(seconds) * 1e6 + Number(micros) }
  const words = rest.split(' ')
  switch (event) {
    case 'gpio_value':
      return {
        ...common,
        what: 'level',
        line: Number(words[0]) - gpioBase(),
        action: words.includes('set') ? 'set' : 'get',
        level: words.at(-1) === '1' ? 1 : 0,
      }
    case 'gpio_direction':
      return {
        ...common,
        what: 'direction',
        line: Number(words[0]) - gpioBase(),
        direction: words.includes('in') ? 'in' : 'out',
      }
    case 'pwm_apply':
      return {
        ...common,
        what: 'pwm',
        periodNs: Number(/period=(\d+)/.exec(rest)?.[1]),
        dutyNs: Number(/duty_cycle=(\d+)/.exec(rest)?.[1]),
        enabled: /enabled=1/.test(rest),
      }
    case 'open_path':
      return { ...common, what: 'open-path', path: quoted(rest) }
    case 'open_gpiochip':
    case 'open_i2c':
    case 'open_spi':
      return { ...common, what: 'open', name: quoted(rest) }
    case 'request':
    case 'request_v1':
      return { ...common, what: 'request' }
    case 'release':
    case 'configure':
    case 'export':
    case 'unexport':
      return { ...common, what: event }
    default:
      throw new Error(`expected an event that was asked for, got ${event}`)
  }
}

function quoted(text: string): string {
  return /="(.*)"/.exec(text)?.[1] ?? ''
}
