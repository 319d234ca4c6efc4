/** `medulla attack` against a simulated robot: its output, and that it notices attacks that get through. */
import { afterAll, expect, test } from 'vitest'
import { makeBundle } from '../../../../deploy/laptop/cli/attackbundle.ts'
import {
  type Attack,
  anotherRobot,
  keepOut,
  letIn,
  makeAttacker,
  type Scene,
} from '../../../../deploy/laptop/cli/attackers.ts'
import { isTried, type Tried, tryAll } from '../../../../deploy/laptop/cli/attackrun.ts'
import { ATTACKS } from '../../../../deploy/laptop/cli/attacks.ts'
import { checkTarget, conclusion, unexpectedReceipts, verdictOf } from '../../../../deploy/laptop/cli/truststate.ts'
import type { Receipt, StatusReport } from '../../../../deploy/shared/api.ts'
import { laptopOf } from '../../../e2e/laptop.ts'
import { build } from '../../../e2e/programs.ts'
import { TestRobot } from '../../../e2e/robot.ts'
import { Laptop } from './medulla.ts'

const laptop = new Laptop()
afterAll(() => laptop.close())

const LED = { model: 'sim', handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } }

test('every attack has its own line, of at most 80 columns', () => {
  expect(new Set(ATTACKS.map(({ who, what }) => `${who} ${what}`)).size).toBe(ATTACKS.length)
  expect(
    ATTACKS.filter(({ who, what, expected }) => who.length > 9 || what.length > 38 || expected.length > 17),
  ).toEqual([])
})

test('a robot refuses every attack with the code in the table, and its program runs on', async () => {
  await laptop.sim(LED)
  const first = await laptop.json('attack')
  expect(first.status, first.stderr).toBe(0)
  const tried = first.events.filter(({ event }) => event === 'attack')
  const expected = ATTACKS.map(({ who, what, expected }) => ({ who, what, answer: expected }))
  expect(tried.map(({ who, what, answer }) => ({ who, what, answer }))).toEqual(expected)
  for (const one of tried) expect(one).toMatchObject({ tried: true, verdict: 'refused', unchanged: true, changes: [] })
  expect(first.events[0]).toEqual({ event: 'pushed', slot: 'main', program: 'attack' })
  expect(first.events.at(-1)).toEqual({
    event: 'attacked',
    ok: true,
    attacks: ATTACKS.length,
    notTried: 0,
    changes: [],
  })

  const { events } = await laptop.json('operators')
  expect(events.map(({ role }) => role)).toEqual(['owner'])
  const before = await laptop.json('status')
  const { status, stdout } = await laptop.run('attack')
  expect(status).toBe(0)
  expect((await laptop.json('status')).events[0]).toMatchObject({
    slots: [{ slot: 'main', pid: (before.events[0] as unknown as StatusReport).slots[0]?.pid, restarts: 0 }],
  })
  expect(stdout).not.toContain('was pushed')
  expect(stdout).toMatch(/^operator {3}the bundle that runs, once more +not tried$/m)
  const last = `${ATTACKS.length - 1} attacks (1 not tried), all refused; the robot's state is unchanged`
  expect(stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2))).toBe(`\n${last}\n`)
  expect(stdout.split('\n').filter((line) => [...line].length > 80)).toEqual([])
})

test('Ctrl-C ends the attacks, and removes the operators that were added for them', async () => {
  const attack = laptop.start(['attack', '--json'])
  // a second Ctrl-C would end the process at once
  let interrupted = false
  attack.stdout?.on('data', (text: string) => {
    if (interrupted || !text.includes('"event":"attack"')) return
    interrupted = attack.kill('SIGINT')
  })
  const { status, stderr } = await attack.ended
  expect(status).toBe(130)
  expect(stderr).toMatch(/interrupted after \d+ of \d+ attacks/)
  expect((await laptop.json('operators')).events.map(({ role }) => role)).toEqual(['owner'])
})

test('attack needs an owner, because it adds two operators', async () => {
  const robot = await TestRobot.start()
  const other = await laptopOf(robot)
  try {
    await robot.commit('steady')
    const { status, stderr } = await other.run('attack')
    expect(status).toBe(3)
    expect(stderr).toContain('expected role owner')
    expect(await robot.client.operators()).toHaveLength(2)
  } finally {
    await other.close()
    await robot.close()
  }
})

test('attack refuses a robot that is not simulated', async () => {
  const board = JSON.stringify({ name: 'real', model: 'linux', handles: {}, unconfined: true })
  const robot = await TestRobot.start({}, {}, { board })
  const other = await laptopOf(robot)
  try {
    const head = (await robot.client.status()).head
    const { status, stdout, stderr } = await other.run('attack', '--json')
    expect(status).toBe(2)
    expect(stderr).toMatch(/is not simulated: attacks are tried on simulated robots only\nmedulla: hint: medulla sim /)
    expect(stdout).not.toContain('"event":"attack"')
    expect((await robot.client.status()).head).toEqual(head)
  } finally {
    await other.close()
    await robot.close()
  }
})

test('an attack that gets through is noticed by its answer, by changes on the robot, or by the receipts', async () => {
  const robot = await TestRobot.start()
  await robot.commit('steady')
  const { files, manifest } = await build('counter', { version: '2.0.0' })
  const owner = { client: robot.client, options: robot.options(), signer: robot.owner.signer }
  const [slot] = (await robot.client.status()).slots
  if (slot === undefined) throw new Error('steady runs')
  const scene: Scene = {
    owner,
    observer: await letIn(owner.client, await makeAttacker('low', owner.options), 'observer'),
    operator: await letIn(owner.client, await makeAttacker('high', owner.options), 'operator'),
    stranger: await makeAttacker('nobody', owner.options),
    robot: robot.address,
    elsewhere: await anotherRobot(),
    program: { files, manifest },
    slot,
    handles: [],
    installed: undefined,
  }
  const attack = (what: string, expected: Attack['expected'], run: Attack['run']): Attack => ({
    who: 'operator',
    what,
    expected,
    run,
  })
  const attacks = [
    attack('sets a free handle', 'role', async ({ operator }) => {
      await operator.client.set('tail', 1)
      return 'role'
    }),
    attack('lets somebody in, and keeps him out again', 'role', async ({ owner, stranger }) => {
      const insider = await letIn(owner.client, stranger, 'observer')
      insider.client.close()
      await keepOut(owner.client, stranger)
      return 'role'
    }),
    attack('a refusal, and another one than expected', 'role', async () => 'not-newer'),
    attack('a refusal', 'role', async () => 'role'),
    attack('a good push', 'bad-bundle', async ({ operator, program, robot: to }) => {
      for await (const _ of operator.client.push('main', await makeBundle(program, operator.signer, to)));
      return 'accepted'
    }),
  ]
  try {
    const found: Tried[] = []
    const { signal } = new AbortController()
    for await (const result of tryAll(attacks, scene, robot.identity.key, () => {}, signal)) {
      if (isTried(result)) found.push(result)
    }
    expect(found.map(({ verdict }) => verdict)).toEqual(['through', 'through', 'otherwise', 'refused', 'through'])
    expect(found[0]?.changes).toEqual(['value of tail: 0 became 1'])
    expect(found[1]?.changes).toEqual([
      expect.stringMatching(/^receipt \d+: all changed, operator attack|^receipt \d+: all changed, operator nobody/),
      expect.stringMatching(/: removed; change 5 of the list$/),
    ])
    expect(found[4]?.changes.join('\n')).toMatch(/main pid: \d+ became \d+/)
    expect(found[4]?.changes.join('\n')).toMatch(/receipt \d+: main committed/)
    expect(conclusion(found.map(({ verdict }) => verdict), [])).toEqual({ ok: false, line: '5 attacks, got through: 3' }) // biome-ignore format: one call
  } finally {
    for (const insider of [scene.observer, scene.operator]) insider.client.close()
    await robot.close()
  }
})

test('an attack counts as refused only with the stated code and without a change on the robot', () => {
  expect(verdictOf('role', 'role', [])).toBe('refused')
  expect(verdictOf('role', 'usage', [])).toBe('otherwise')
  expect(verdictOf('role', 'accepted', [])).toBe('through')
  expect(verdictOf('role', 'role', ['main pid: 1 became 2'])).toBe('through')
  expect(verdictOf('in-time', 'late', [])).toBe('otherwise')
  const ok = { ok: true, line: "2 attacks, all refused; the robot's state is unchanged" }
  expect(conclusion(['refused', 'refused'], [])).toEqual(ok)
  const oneLeftOut = { ok: true, line: "2 attacks (1 not tried), all refused; the robot's state is unchanged" }
  expect(conclusion(['refused', 'refused'], [], 1)).toEqual(oneLeftOut)
  expect(conclusion(['refused', 'refused'], ['x'])).toMatchObject({ ok: false })
  expect(conclusion(['refused', 'otherwise'], [])).toMatchObject({ ok: false })
  expect(conclusion([], [])).toMatchObject({ ok: false })
})

test('the receipts may record fewer refusals than attacks, and nothing else', () => {
  const receipt = (seq: number, outcome: Receipt['outcome']) => ({ seq, outcome, slot: 'main' }) as Receipt
  expect(unexpectedReceipts([])).toEqual([])
  expect(unexpectedReceipts([receipt(1, 'refused')])).toEqual([])
  expect(unexpectedReceipts([receipt(1, 'refused'), receipt(2, 'stopped')])).toEqual(['receipt 2: main stopped'])
})

test('a robot in emergency stop proves nothing', () => {
  const status = { name: 'sim', simulated: true, estop: { since: 'noon', reason: 'an operator' } } as StatusReport
  expect(() => checkTarget(status)).toThrow('sim is stopped since noon: an operator')
  expect(() => checkTarget({ ...status, estop: null })).not.toThrow()
  expect(() => checkTarget({ ...status, simulated: false })).toThrow('not simulated')
})
