import { copyFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { Laptop } from './medulla.ts'

/** Laptops of the first owner and of a second operator. */
let [ann, bob]: Laptop[] = []

beforeAll(async () => {
  ;[ann, bob] = [new Laptop(), new Laptop()]
  await ann.sim({ model: 'sim', handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } })
  await bob.run('keygen')
  const card = await bob.run('trust', '--export')
  writeFileSync(join(ann.dir, 'bob.json'), card.stdout)
  // as `medulla trust NAME ADDRESS --card`
  const known = readdirSync(join(ann.dir, 'config')).find((name) => name === 'robots.json') ?? ''
  copyFileSync(join(ann.dir, 'config', known), join(bob.dir, 'config', known))
})
afterAll(async () => {
  await bob?.close()
  await ann?.close()
})

const says = async (laptop: Laptop | undefined, ...args: string[]) => {
  const { status, stdout, stderr } = (await laptop?.run(...args)) ?? {}
  return { status, said: `${stdout}${stderr}` }
}

test('HANDOVER 8.12: an owner adds an operator, changes her role and removes her, each with effect at once', async () => {
  expect(await says(bob, 'status')).toMatchObject({ status: 3, said: expect.stringContaining('closed the connection') })
  expect(await says(ann, 'operators', 'add', 'bob.json', '--role', 'observer', '--name', 'bob')).toEqual({
    status: 0,
    said: expect.stringMatching(/^bob is observer now\nmedulla: hint: .*medulla trust NAME ADDRESS/),
  })
  // trusting the same card again keeps the role and name
  expect((await says(ann, 'operators', 'add', 'bob.json')).said).toContain('bob is observer now')
  expect((await says(bob, 'status')).status).toBe(0)
  expect(await says(bob, 'set', 'led', '1')).toMatchObject({ status: 3, said: expect.stringContaining('role') })
  expect(await says(bob, 'operators')).toMatchObject({ status: 3 })
  expect(await says(ann, 'operators', 'role', 'bob', 'operator')).toMatchObject({ status: 0 })
  expect(await says(bob, 'set', 'led', '1')).toEqual({ status: 0, said: 'led is 1\n' })
  const list = await says(bob, 'operators')
  expect(list.said).toMatch(/^name +role +key\n.* owner +SHA256:\S+\nbob +operator +SHA256:\S+\n$/)
  expect(await says(bob, 'operators', 'role', 'bob', 'owner')).toMatchObject({
    status: 3,
    said: expect.stringContaining('expected role owner, bob is operator'),
  })
  // an open session ends when its operator is removed
  const follows = bob?.start(['logs', '-f'])
  await eventually(async () => (await ann?.json('receipts'))?.events.some(({ outcome }) => outcome === 'changed'))
  expect(await says(ann, 'operators', 'remove', 'bob')).toEqual({ status: 0, said: 'bob is kept out now\n' })
  expect((await follows?.ended)?.status).not.toBe(0)
  expect((await says(bob, 'status')).status).toBe(3)
  const changes = (await ann?.json('receipts'))?.events.filter(({ outcome }) => outcome === 'changed') ?? []
  const reasons = changes.map(({ reason }) =>
    String(reason)
      .replace(/SHA256:\S+(?=\))/, 'ID')
      .replace(/; change \d+ of the list$/, ''),
  )
  expect(reasons).toEqual(['observer', 'observer', 'operator', 'removed'].map((now) => `operator bob (ID): ${now}`))
  expect(new Set(changes.map(({ pusher }) => pusher)).size).toBe(1)
})

test('the last owner cannot be removed, and an unknown name is refused', async () => {
  const { events } = (await ann?.json('operators')) ?? {}
  const me = String(events?.[0]?.fingerprint)
  const last = 'the list of operators would have no owner left'
  expect(await says(ann, 'operators', 'remove', me)).toMatchObject({ status: 3, said: expect.stringContaining(last) })
  expect((await says(ann, 'operators', 'role', me, 'observer')).said).toContain(last)
  expect((await says(ann, 'operators', 'remove', 'nobody')).said).toContain(
    'no operator of the robot is called "nobody"',
  )
})

test('an owner who removes himself still gets the answer', async () => {
  await says(ann, 'operators', 'add', 'bob.json', '--role', 'owner', '--name', 'bob')
  expect(await says(bob, 'operators', 'remove', 'bob')).toEqual({ status: 0, said: 'bob is kept out now\n' })
  expect((await says(bob, 'status')).status).toBe(3)
})
