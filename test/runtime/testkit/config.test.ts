import { robot } from 'medulla'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const board = { model: 'sim', handles: { led: { kind: 'output', line: 17 } } }
const program = (greeting = 'hello') =>
  robot({
    needs: { led: 'output' },
    config: ['URL', 'TOKEN'],
    run({ config, log, every }) {
      log(`${greeting} ${config.URL}`, Object.keys(config))
      every(100, () => {})
    },
  })

test('BUNDLE 4.5, HANDOVER 15.2: a simulated program sees the config values that it names, and no others', async () => {
  const config = { URL: 'mqtt://here', TOKEN: 'abc', OTHER: 'no' }
  const sim = await simulate(() => program(), { board, config })
  expect(sim.log.at(-1)?.text).toBe("hello mqtt://here [ 'URL', 'TOKEN' ]")
  await sim.swap(() => program('again'))
  expect(sim.log.at(-1)?.text).toBe("again mqtt://here [ 'URL', 'TOKEN' ]")
  await sim.stop()
})

test('HANDOVER 15.3: a program with a missing config value does not start, and the hint shows how to give the value', async () => {
  await expect(simulate(() => program(), { board, config: { URL: 'mqtt://here' } })).rejects.toMatchObject({
    code: 'missing-config',
    message: 'program needs TOKEN, which is not given to the simulation',
    hint: expect.stringContaining("simulate(program, { config: { NAME: 'value' } })"),
  })
})

test('reading a config name that is not declared is a type error, and an error with a suggestion at load', async () => {
  const mistaken = () =>
    robot({
      needs: {},
      config: ['TOKEN'],
      // @ts-expect-error: there is no TOKNE
      run: ({ config }) => void config.TOKNE,
    })
  await expect(simulate(mistaken, { board, config: { TOKEN: 'abc' } })).rejects.toThrow(
    "config has no 'TOKNE'; did you mean 'TOKEN'?",
  )
})

test('a program cannot write its config values', async () => {
  const writes = () =>
    robot({
      needs: {},
      config: ['URL'],
      run: ({ config }) => {
        ;(config as { URL: string }).URL = 'mqtt://there'
      },
    })
  await expect(simulate(writes, { board, config: { URL: 'mqtt://here' } })).rejects.toThrow(/read only/)
})
