/** The runtime replaces itself: the built CLI pushes packages to a robot under a service manager. */
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBundle } from '../../deploy/laptop/build.ts'
import { alarmTexts } from '../../deploy/laptop/cli/statusview.ts'
import { readRuntime } from '../../deploy/laptop/runtimepackage.ts'
import type { RuntimeReport } from '../../deploy/shared/api.ts'
import type { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, TestRobot } from './robot.ts'
import { type Change, Service, stateOf, VERSION, variant } from './service.ts'

/** The robot's times are shorter here: 4 s of health instead of 10, 36 s to become healthy instead of 90. */
const QUICK = { MEDULLA_TIME_SCALE: String(0.4 * SCALE) }

let robot: TestRobot
let laptop: Laptop
let service: Service
let variants = 0

const IF_ASKED = "if (process.argv.includes('able'))"
const ABLE_TO_NOTHING = `${IF_ASKED} { console.log('{"format":"other","wire":0}'); process.exit(0) }`

beforeAll(async () => {
  robot = await TestRobot.start({}, { olga: 'operator' })
  await robot.commit('counter')
  await robot.end()
  service = await Service.start(robot, QUICK)
  await service.runtime()
  laptop = await laptopOf(robot)
  await robot.trust({ cardFile: join(laptop.dir, 'card.json') }, 'owner')
})
afterAll(async () => {
  await service?.end()
  await laptop?.close()
  await robot.close()
})

/** The laptop is patient, as the machine may be busy. */
const medulla = (...args: string[]) => laptop.start(args, { MEDULLA_TIME_SCALE: String(4 * SCALE) }).ended
const made = (change: Change): string => variant(join(laptop.dir, `variant-${++variants}`), change)
const push = (change: Change, ...more: string[]) => medulla('runtime', 'push', made(change), ...more)

async function pushed(version: string): Promise<RuntimeReport> {
  const { status, stderr } = await push({ version })
  expect(status, stderr + service.stderr).toBe(0)
  return service.runtime(({ confirmed }) => confirmed)
}

/** A sealed bundle of a package, signed by the robot's first owner. */
async function bundle(change: Change & { counter?: number }, signer = robot.owner.signer): Promise<Uint8Array> {
  const { files, ...about } = await readRuntime(made(change))
  const { counter = Date.now(), version = VERSION } = change
  const options = { kind: 'runtime' as const, signer, robots: [robot.address], counter, node: about.node }
  return (await makeBundle(files, { program: about.program, version }, options)).bytes
}

/** The last event, or the refusal. */
async function last(events: AsyncIterable<unknown>): Promise<unknown> {
  let found: unknown
  try {
    for await (const event of events) found = event
  } catch (error) {
    return error
  }
  return found
}

const program = () =>
  service.ask(async (client) => {
    const slot = (await client.status()).slots.find((each) => each.slot === 'main')
    return slot?.state === 'running' && slot
  })

test('HANDOVER 17.2, 17.6 to 17.8: a pushed runtime takes over under a running program, and is left again by order', async () => {
  const { pid } = service
  const before = await program()
  const first = await pushed('9.0.1')
  expect(first).toMatchObject({ version: '9.0.1', base: VERSION, previous: { version: VERSION, digest: null } })
  expect(first.digest).toMatch(/^sha256:/)
  expect(service.pid).toBe(pid)
  expect(await program()).toMatchObject({ pid: before.pid, fence: before.fence })

  const second = await pushed('9.0.2')
  expect(second.previous).toEqual({ version: '9.0.1', digest: first.digest })
  const shown = await medulla('runtime')
  expect(shown.stdout).toMatch(/^runtime +9\.0\.2 \([0-9a-f]{8}\)$/m)
  expect(shown.stdout).toMatch(/^state +healthy$/m)
  expect(shown.stdout).toMatch(/^back to +9\.0\.1 \([0-9a-f]{8}\)$/m)

  const back = await medulla('runtime', 'rollback')
  expect(back.status, back.stderr).toBe(0)
  expect(back.stdout).toBe('medulla 9.0.1 runs on e2e\n')
  expect((await medulla('runtime', 'rollback')).status).toBe(0)
  expect(await service.runtime()).toMatchObject({ version: VERSION, digest: null, previous: null })
  const none = await medulla('runtime', 'rollback')
  expect(none).toMatchObject({ status: 3, stderr: expect.stringContaining('e2e runs the installed runtime') })
  // All of that in one process, as far as the service manager knows.
  expect([service.starts, service.pid]).toEqual([1, pid])
  expect((await program()).pid).toBe(before.pid)

  const said = robot.receipts().filter((receipt) => receipt.program === 'medulla')
  expect(said.map(({ outcome, version }) => `${outcome} ${version}`)).toEqual(
    [
      'changed 9.0.1',
      'committed 9.0.1',
      'changed 9.0.2',
      'committed 9.0.2',
      'changed 9.0.1',
      `changed ${VERSION}`,
      `refused ${VERSION}`,
    ].slice(0, 6),
  )
  expect(said[1]).toMatchObject({ slot: 'all', from: null, to: first.digest })
  expect(said[3]).toMatchObject({ from: first.digest, to: second.digest })
})

test('a runtime that cannot go on with the programs is refused, and takes over with --restart', async () => {
  const before = await program()
  const other = made({ version: '9.0.5', first: { file: 'main.js', code: ABLE_TO_NOTHING } })
  const refused = await medulla('runtime', 'push', other)
  expect(refused.status, refused.stderr).toBe(3)
  expect(refused.stderr).toMatch(/cannot go on with running programs/)
  expect(refused.stderr).toMatch(/--restart/)
  expect((await program()).pid).toBe(before.pid)
  const pushing = await medulla('runtime', 'push', other, '--restart')
  expect(pushing.status, pushing.stderr + service.stderr).toBe(0)
  expect((await program()).pid).not.toBe(before.pid)
  const back = await medulla('runtime', 'rollback', '--restart')
  expect(back.status, back.stderr).toBe(0)
  await program()
})

describe('HANDOVER 17.6: a runtime that does not become healthy is undone', () => {
  const HANG = 'setInterval(() => {}, 1e6); await new Promise(() => {})'
  // before it counts as healthy, which takes 10 s (HANDOVER 17.6), here 4
  const CRASH = "setTimeout(() => process.kill(process.pid, 'SIGKILL'), 3000)"
  const undone = async (file: string, code: string, starts: number, says: string) => {
    const before = await service.runtime()
    const expected = service.starts + starts
    const { status, stderr } = await push({ version: '9.1.0', first: { file, code } })
    expect(status, stderr).toBe(4)
    expect(stderr).toContain(says)
    const after = await service.runtime()
    expect(after).toMatchObject({ version: before.version, digest: before.digest, confirmed: true })
    expect(after.failed[0]).toMatchObject({ version: '9.1.0' })
    expect(service.starts).toBe(expected)
    await program()
    const last = await eventually(() => {
      return robot.receipts().findLast(({ outcome, version }) => outcome === 'rolled-back' && version === '9.1.0')
    })
    expect(last).toMatchObject({ slot: 'all', code: 'died-at-start', program: 'medulla' })
  }
  const ENDED = 'medulla 9.1.0 was undone: it ended, or was ended, before it was healthy'
  const NO_START = 'the new runtime does not start'

  test('one that throws as it is loaded', () => undone('main.js', "throw new Error('no')", 0, NO_START))
  test('one that hangs as it is loaded', () => undone('main.js', HANG, 0, NO_START))
  test('one that hangs once it has taken over', () => undone('main.js', `${IF_ASKED} {} else { ${HANG} }`, 1, ENDED))
  test('one whose endpoint never serves', () => undone('endpoint/main.js', HANG, 1, ENDED))
  test('one that crashes soon after its start', () => undone('main.js', `${IF_ASKED} {} else { ${CRASH} }`, 1, ENDED))
})

test('HANDOVER 17.6: a runtime that was undone is refused until it is pushed with --retry', async () => {
  const file = join(laptop.dir, 'crashes.medulla')
  writeFileSync(file, await bundle({ version: '9.2.0', first: { file: 'main.js', code: 'process.exit(1)' } }))
  expect((await medulla('runtime', 'push', file)).status).toBe(4)
  const again = await medulla('runtime', 'push', file)
  expect(again.status).toBe(3)
  expect(again.stderr).toContain('medulla 9.2.0 was tried and rolled back')
  expect(again.stderr).toContain('--retry')
  expect((await medulla('runtime', 'push', file, '--retry')).status).toBe(4)
})

describe('HANDOVER 17.2, BUNDLE 14.2 to 14.5: what is refused leaves the runtime as it is', () => {
  const refused = async (bytes: Uint8Array, as = robot.owner) => {
    const result = await service.ask<{ code: string; message: string; hint?: string }>(async () => {
      const client = await robot.connect(as)
      const all: unknown[] = []
      try {
        for await (const event of client.pushRuntime(bytes)) {
          if (event.event === 'result') return { code: 'none', ...event }
          all.push(event)
        }
        return { code: 'none', message: JSON.stringify(all) }
      } catch (error) {
        return error as { code: string; message: string; hint?: string }
      } finally {
        client.close()
      }
    })
    const { code, message, hint } = result
    return { code, message, hint }
  }

  test('a program', async () => {
    const { bytes } = await robot.bundle('counter', { version: '2.0.0' })
    expect(await refused(bytes)).toMatchObject({
      code: 'wrong-slot',
      message: 'counter 2.0.0 is a program, and no runtime',
      hint: 'a program goes into a slot: medulla push',
    })
  })

  test('a runtime that is pushed into a slot', async () => {
    const bytes = await bundle({ version: '9.3.0' })
    const result = await service.ask((client) => ended(client.push('main', bytes)))
    expect(result).toMatchObject({ code: 'wrong-slot', message: 'a runtime release does not go into a slot' })
  })

  test('a push by an operator, and one that an operator signed', async () => {
    const { olga } = robot.others
    if (olga === undefined) throw new Error('nobody')
    expect(await refused(await bundle({ version: '9.3.1' }), olga)).toMatchObject({
      code: 'role',
      message: 'expected role owner, olga is operator',
    })
    expect(await refused(await bundle({ version: '9.3.1' }, olga.signer))).toMatchObject({
      code: 'role',
      message: 'a runtime must be signed and pushed by an owner; olga is operator',
    })
  })

  test('a lower counter than that of a runtime which was healthy', async () => {
    const before = await bundle({ version: '9.3.2' })
    await pushed('9.3.3')
    expect(await refused(before)).toMatchObject({
      code: 'not-newer',
      message: expect.stringMatching(/^medulla 9\.3\.2 has counter/),
      hint: expect.stringContaining('medulla runtime push'),
    })
  })

  test('other versions of packages than those that are installed', async () => {
    const packageJson = (about: Record<string, unknown>) => {
      about.optionalDependencies = { ...(about.optionalDependencies as object), koffi: '9.9.9', extra: '1.0.0' }
    }
    expect(await refused(await bundle({ version: '9.3.4', packageJson }))).toMatchObject({
      code: 'wrong-packages',
      message: expect.stringMatching(
        /^medulla 9\.3\.4 needs extra 1\.0\.0 \(installed: none\), koffi 9\.9\.9 \(installed: /,
      ),
      hint: expect.stringContaining('apt or npm'),
    })
  })

  test('a release of another version than its package.json', async () => {
    const { files, program: name, node } = await readRuntime(made({ version: '9.3.5' }))
    const options = {
      kind: 'runtime' as const,
      signer: robot.owner.signer,
      robots: [robot.address],
      counter: Date.now(),
    }
    const { bytes } = await makeBundle(files, { program: name, version: '9.3.6' }, { ...options, node })
    expect(await refused(bytes)).toMatchObject({ code: 'bad-bundle' })
  })
})

test('HANDOVER 17.4: a runtime and a program are not replaced at the same time, nor a runtime that has yet to prove itself', async () => {
  const slow = await robot.bundle('slow-import')
  const [next, another] = [await bundle({ version: '9.3.8' }), await bundle({ version: '9.3.9' })]
  const client = await robot.connect()
  const pushing = client.push('main', slow.bytes)
  for await (const event of pushing) {
    if (event.event === 'result') expect(event).toMatchObject({ outcome: 'committed' })
    if (event.event !== 'phase' || event.phase !== 'spawn') continue
    const refused = await last(client.pushRuntime(next))
    expect(refused).toMatchObject({ code: 'in-progress', message: 'a program is being pushed or started' })
  }
  for await (const { event } of client.pushRuntime(next)) if (event === 'replacing') break
  client.close()
  await service.runtime(({ version, confirmed }) => version === '9.3.8' && !confirmed)
  const again = await robot.connect()
  const refused = await last(again.pushRuntime(another))
  again.close()
  expect(refused).toMatchObject({ code: 'in-progress', message: expect.stringContaining('has yet to prove itself') })
  await service.runtime(({ confirmed }) => confirmed)
})

test('HANDOVER 17.5: Y10: a pushed runtime with a changed byte is not started, and status raises an alarm', async () => {
  const { digest, version } = await pushed('9.4.0')
  const tree = join(robot.home, 'runtimes', String(digest).replace('sha256:', ''), 'tree')
  appendFileSync(join(tree, 'dist/runtime/guard/main.js'), ' ')
  service.kill('SIGKILL')
  const after = await service.runtime((report) => report.version !== version)
  expect(after.failed[0]?.reason).toMatch(/was changed on disk: expected h1:/)
  const client = await robot.connect()
  const [alarm] = alarmTexts(await client.status())
  client.close()
  expect(alarm).toMatch(/^ALARM: runtime 9\.4\.0: the runtime sha256:.* was changed on disk/)
  await program()
})

test('HANDOVER 17.3: after SIGKILL at any step of a push, the old or the new runtime runs', {
  timeout: 400_000 * SCALE,
}, async () => {
  const trees = () => readdirSync(join(robot.home, 'runtimes'))
  const state = () => stateOf(robot.home)
  const isTree = (name: string) => /^[0-9a-f]{64}$/.test(name)
  const known = new Set<string>()
  const steps: [string, (version: string) => boolean][] = [
    [
      'a tree is being written',
      () => trees().some((name) => name.startsWith('.tmp-') && existsSync(join(robot.home, 'runtimes', name, 'tree'))),
    ],
    ['the tree is whole', () => trees().some((name) => isTree(name) && !known.has(name))],
    ['it is chosen', (version) => state().includes(`"version": "${version}"`)],
    [
      'its start is counted',
      (version) => state().includes(`"version": "${version}"`) && state().includes('"starts": 1'),
    ],
  ]
  let tries = 0
  for (const left = [...steps]; left.length > 0; ) {
    const [step, reached] = left[0] as (typeof steps)[number]
    const version = `9.5.${tries++}`
    const before = await service.runtime(({ confirmed }) => confirmed)
    for (const name of trees()) known.add(name)
    let isOver = false
    const pushing = push({ version }).finally(() => {
      isOver = true
    })
    // on a busy machine the step may be over before this process looks: then it is tried again
    while (!reached(version) && !isOver) await sleep(1)
    if (!isOver) left.shift()
    service.kill('SIGKILL')
    const { status } = await pushing
    const after = await service.runtime(({ confirmed }) => confirmed)
    expect([before.version, version], step).toContain(after.version)
    if (status === 0) expect(after.version, step).toBe(version)
    await program()
  }
  expect(trees().filter(isTree).length).toBeLessThanOrEqual(3)
  expect(readFileSync(join(robot.home, 'receipts.ndjson'), 'utf8')).not.toBe('')
})

test('HANDOVER 17.9: an installed runtime that fails five times in a row starts no program, and takes a runtime', async () => {
  while ((await service.runtime()).digest !== null) {
    const { status, stderr } = await medulla('runtime', 'rollback')
    expect(status, stderr).toBe(0)
  }
  await eventually(() => stateOf(robot.home).includes('"starts": 0'))
  for (let each = 1; each <= 5; each++) {
    service.kill('SIGKILL')
    await eventually(() => stateOf(robot.home).includes(`"starts": ${each},`))
  }
  service.kill('SIGKILL')
  const { minimal } = await service.runtime((report) => report.minimal !== undefined)
  expect(minimal?.why).toBe('the runtime failed 5 times in a row')
  const shown = await medulla('runtime')
  expect(shown.stdout).toContain('MINIMAL MODE: no program is started, because the runtime failed 5 times in a row')
  expect((await medulla('status')).stdout).toMatch(
    /^MINIMAL MODE: .*\npush a runtime that works: medulla runtime push; or restart this one on the robot$/m,
  )
  await service.ask(async (client) => {
    expect((await client.status()).slots).toMatchObject([{ slot: 'main', state: 'idle' }])
    expect(await ended(client.push('main', (await robot.bundle('counter', { version: '3.0.0' })).bytes))).toMatchObject(
      {
        code: 'minimal',
        message: 'the robot is in minimal mode and starts no program: the runtime failed 5 times in a row',
      },
    )
    expect(await ended(client.start('main'))).toMatchObject({ code: 'minimal' })
    return true
  })
  expect(await pushed('9.6.0')).not.toHaveProperty('minimal')
  await program()
})
