/** Judges the computer without its pins: model, kernel, Node, power, clock, memory, real-time priority, home. */
import type { Board } from '../../drivers/board/types.ts'
import type { Facts } from './facts.ts'
import { act, type Finding, ok, problem, run, UPDATE, warning, write } from './finding.ts'
import { isPi, modelOf } from './models.ts'

const NODE = [20, 19] as const
/** The first kernels with version 2 of the GPIO character device, and with cgroup.kill. */
const KERNEL = { lines: [5, 10], kill: [5, 14] } as const
/** Memory that a candidate's Node process needs beside the running program. */
const CANDIDATE_MB = 60
const SERVICE = "the runtime's service, under [Service]"

/** The bits of get_throttled from bit 0: what is so now. From bit 16: what was so at any time since the start. */
const POWER = ['under-voltage', 'frequency capped', 'throttled', 'soft temperature limit'] as const

export function aboutMachine(facts: Facts, board: Board | null): Finding[] {
  return [
    model(facts, board),
    kernel(facts),
    node(facts),
    power(facts),
    clock(facts),
    memory(facts, board),
    realtime(facts, board),
    home(facts),
    ...pairing(facts),
    ...service(facts),
  ]
}

function model({ model: name, platform, arch, board: { file } }: Facts, board: Board | null): Finding {
  const about = 'model'
  const known = modelOf(name)
  if (known === null) {
    const what = name ?? `${platform} on ${arch}`
    const simulated = board?.model === 'sim' ? ': a simulated board runs here' : ''
    if (!isPi(name)) {
      const found = `this is not a Raspberry Pi (${what})${simulated}`
      return simulated === '' ? warning(about, found, run('medulla sim')) : ok(about, found)
    }
    const found = `${what} is not a supported model (pi3, pi4, pi5, zero2w)`
    return warning(about, found, write('"model": "linux", "chip": "LABEL"', file))
  }
  const found = `${name}: "model": "${known}"`
  if (board === null || board.model === known || board.model === 'linux') return ok(about, found)
  if (board.model === 'sim')
    return warning(about, `${found}, but the board is simulated`, write(`"model": "${known}"`, file))
  return problem(about, `${found}, but the board says "${board.model}"`, write(`"model": "${known}"`, file))
}

function kernel({ platform, kernel: release, arch }: Facts): Finding {
  const about = 'kernel'
  if (platform !== 'linux') {
    return problem(about, `hardware needs Linux, this is ${platform}`, run('medulla sim'))
  }
  if (!atLeast(release, KERNEL.lines)) {
    return problem(about, `${release}: kernels below 5.10 have no GPIO character device v2`, UPDATE)
  }
  if (!atLeast(release, KERNEL.kill)) {
    return warning(about, `${release}: kernels below 5.14 have no cgroup.kill, so the fence is weak`, UPDATE)
  }
  if (arch !== 'arm64' && arch !== 'x64') {
    const found = `${release}, but Node is built for ${arch}: programs can be confined on a 64-bit system only`
    return problem(about, found, act('install the 64-bit Raspberry Pi OS, and Node for arm64'))
  }
  return ok(about, `${release}, ${arch}`)
}

function node({ node: { version, path, closed } }: Facts): Finding {
  const about = 'node'
  if (!atLeast(version, NODE)) {
    return problem(
      about,
      `Node ${version}, expected ${NODE.join('.')} or newer`,
      act('install Node from nodejs.org, or on Debian 13: apt install nodejs'),
    )
  }
  if (closed === null) return ok(about, `${version}, ${path}`)
  return problem(
    about,
    `programs run as their own users, which cannot read ${closed}`,
    run(`sudo chmod -R o+rX ${closed}`),
  )
}

function power({ throttled, model: name }: Facts): Finding {
  const about = 'power'
  if (throttled === null) return ok(about, isPi(name) ? 'the firmware reports nothing' : 'no Raspberry Pi firmware')
  const set = (shift: number) => POWER.filter((_, bit) => (throttled >> (bit + shift)) & 1)
  const [now, before] = [set(0), set(16)]
  if (now.length === 0 && before.length === 0) return ok(about, 'no under-voltage, not throttled since the start')
  const fix = [...now, ...before].includes('under-voltage')
    ? act('use a 5.1 V supply with a short, thick cable, and a separate supply for motors')
    : act('keep the Pi below 80 degrees, with a heat sink or a fan')
  if (now.length > 0) return problem(about, `now: ${now.join(', ')}`, fix)
  return warning(about, `since the start: ${before.join(', ')}`, fix)
}

function clock({ clockSet }: Facts): Finding {
  const about = 'clock'
  if (clockSet === null) return ok(about, 'unknown: asking the kernel needs koffi')
  if (clockSet) return ok(about, 'synchronised')
  const found = 'not synchronised: a wrong clock refuses good bundles as too new or expired, and misdates receipts'
  return warning(about, found, run('sudo timedatectl set-ntp true'))
}

function memory({ memory: { availableMb, totalMb } }: Facts, board: Board | null): Finding {
  const about = 'memory'
  const needed = CANDIDATE_MB + (board?.memoryReserveMb ?? 0)
  const found = `${availableMb} of ${totalMb} MB are free`
  if (availableMb >= needed) return ok(about, found)
  const fix = run('ps -eo rss,comm --sort=-rss | head')
  return problem(about, `${found}: a swap runs two programs at once and needs ${needed} MB`, fix)
}

function realtime({ realtime: { works, runtimeUs, preemptRt } }: Facts, board: Board | null): Finding {
  const about = 'realtime'
  const wanted = board?.realtime ?? 0
  const kind = preemptRt ? 'a PREEMPT_RT kernel' : 'a kernel without PREEMPT_RT'
  if (!works) {
    const found = `SCHED_FIFO is not allowed here, ${kind}`
    const fix = write('LimitRTPRIO=99', SERVICE)
    if (wanted > 0) return problem(about, `${found}, and the board says "realtime": ${wanted}`, fix)
    return ok(about, `${found}; the board does not ask for it`)
  }
  if (wanted > 0 && runtimeUs === -1) {
    const fix = run('sudo sysctl -w kernel.sched_rt_runtime_us=950000')
    return warning(about, 'SCHED_FIFO has no limit: a program in an endless loop blocks its CPU for ever', fix)
  }
  return ok(about, `SCHED_FIFO works, ${kind}`)
}

function home({ home: { dir, there, closed, running }, user }: Facts): Finding {
  const about = 'home'
  if (closed) return warning(about, `${user.name} may not read ${dir}`, run('sudo medulla doctor'))
  if (running !== null) return ok(about, `${dir}: in use by a runtime, pid ${running}`)
  if (there) return ok(about, dir)
  return warning(about, `no robot in ${dir} yet`, run('sudo medulla install'))
}

function pairing({ home: { running, pairing: until } }: Facts): Finding[] {
  if (running === null || until === null) return []
  const found = `a pairing window is open until ${until}: whoever types its code becomes an operator`
  return [warning('pairing', found, act('pair your laptop, or wait until the window closes'))]
}

function service({ service: found }: Facts): Finding[] {
  const about = 'service'
  const install = run('sudo medulla install')
  if (found === null) return []
  if (!found.installed) return [warning(about, 'the robot is not started with this computer', install)]
  if (found.missing === null) return [ok(about, 'medulla.service is installed')]
  return [problem(about, `medulla.service starts ${found.missing}, which is not there`, install)]
}

/** Compares the first two numbers of a version. */
function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, a = '0', b = '0'] = /^v?(\d+)\.(\d+)/.exec(version) ?? []
  return Number(a) > major || (Number(a) === major && Number(b) >= minor)
}
