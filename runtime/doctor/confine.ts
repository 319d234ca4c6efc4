/** Reports which fence, limits and confinement programs would have on this machine (HANDLES 10, 13). */
import type { Board } from '../../drivers/board/types.ts'
import { type Facts, TOOLS } from './facts.ts'
import { act, type Finding, ok, problem, run, UPDATE, warning, write } from './finding.ts'
import { isPi } from './models.ts'

const CONTROLLERS = ['memory', 'pids'] as const

export function aboutConfinement(facts: Facts, board: Board | null): Finding[] {
  if (facts.platform !== 'linux') return []
  return [tools(facts), confinement(facts, board), ...groups(facts, board)]
}

function tools({ noTools, bwrap }: Facts): Finding {
  const about = 'tools'
  if (noTools.length > 0) {
    const packages = [...new Set(noTools.map((name) => TOOLS[name]))]
    return problem(about, `missing: ${noTools.join(', ')}`, run(`sudo apt install ${packages.join(' ')}`))
  }
  const optional = bwrap ? 'and bwrap' : 'and not bwrap, which is optional'
  return ok(about, `${Object.keys(TOOLS).join(', ')} are installed, ${optional}`)
}

function confinement({ confine, user, board: { file } }: Facts, board: Board | null): Finding {
  const about = 'confine'
  if (confine.ok) return ok(about, 'programs can be confined: own user, own root folder, seccomp filter')
  if (board?.model === 'sim') return ok(about, `not here (${confine.why}); a simulated board does not need it`)
  const found = `programs cannot be confined here: ${confine.why}`
  if (board?.unconfined === true) return warning(about, `${found}; the board says "unconfined": true`)
  const fix = user.uid === 0 ? act(confine.fix) : run('sudo medulla doctor')
  return problem(about, found, fix, write('"unconfined": true', file))
}

function groups({ groups: now, model, cmdline, firmware, user }: Facts, board: Board | null): Finding[] {
  const about = 'cgroup'
  const simulated = board?.model === 'sim'
  const { mount, controllers, kill, own, writable } = now
  const boot = isPi(model) ? `${firmware}/cmdline.txt` : 'the kernel command line'
  if (mount === null) {
    const found = 'no cgroup v2: the fence is weak (SIGSTOP), and memory has no limit'
    if (simulated) return [ok(about, found)]
    return [warning(about, found, write('systemd.unified_cgroup_hierarchy=1', boot), run('sudo reboot'))]
  }
  const findings: Finding[] = []
  const absent = CONTROLLERS.filter((name) => !controllers.includes(name))
  if (absent.length === 0) findings.push(ok(about, `v2 at ${mount}, with ${CONTROLLERS.join(' and ')}`))
  else {
    const found = `v2 at ${mount} without ${absent.join(' and ')}: programs have no limit of ${absent.join(' and ')}`
    const disabled = cmdline.includes('cgroup_disable=memory') || isPi(model)
    // the firmware of a Pi disables the memory controller; the last of several words on the line wins
    const line = absent.includes('memory') && disabled ? 'cgroup_enable=memory' : 'systemd.unified_cgroup_hierarchy=1'
    findings.push(simulated ? ok(about, found) : warning(about, found, write(line, boot), run('sudo reboot')))
  }
  if (!kill && !simulated) {
    findings.push(warning(about, 'no cgroup.kill: the fence is weak', UPDATE))
  }
  if (!writable && !simulated) {
    const why = user.uid === 0 ? 'it is mounted read-only' : `${user.name} may not write it`
    const fix = user.uid === 0 ? act('run the runtime outside of this container') : act('run the runtime as root')
    findings.push(warning(about, `cannot make groups below ${own ?? '?'}: ${why}`, fix, delegate))
  }
  return findings
}

const delegate = write('Delegate=yes', "the runtime's service, under [Service]")
