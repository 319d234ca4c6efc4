import { expect, test } from 'vitest'
import { verifyCertificate } from '../../../deploy/shared/cert.ts'
import { fingerprint, noisePublic } from '../../../deploy/shared/keys.ts'
import { makeRecoveryKey, openRecoveryKey } from '../../../deploy/shared/recoverykey.ts'
import { refusal } from '../../fixtures/tools.ts'

test('HANDOVER 19.3: a recovery key is 7 groups of 4 characters, and gives the same keys each time it is typed', async () => {
  const { text, publicKey } = makeRecoveryKey()
  expect(text).toMatch(/^(?:[0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}$/)
  expect(makeRecoveryKey().text).not.toBe(text)
  for (const typed of [text, text.toLowerCase(), text.replaceAll('-', ' '), ` ${text.replaceAll('-', '')}\n`]) {
    const { signer, noiseSecret, card } = await openRecoveryKey(typed)
    expect(signer.publicKey).toBe(publicKey)
    expect(verifyCertificate(card)).toMatchObject({
      id: fingerprint(publicKey),
      subject: 'operator',
      noise: Buffer.from(noisePublic(noiseSecret)).toString('base64'),
    })
  }
})

test('the letters O, I and L, which people write for digits, count as these digits', async () => {
  for (;;) {
    const { text, publicKey } = makeRecoveryKey()
    if (!/0.*1|1.*0/.test(text)) continue
    const { signer } = await openRecoveryKey(text.replaceAll('0', 'o').replace('1', 'I').replaceAll('1', 'l'))
    expect(signer.publicKey).toBe(publicKey)
    return
  }
})

test('a wrong character, a missing one and two exchanged ones are refused, without a part of the text in the message', async () => {
  const { text } = makeRecoveryKey()
  let unnoticed = 0
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '-') continue
    const wrong = `${text.slice(0, at)}${text[at] === '7' ? '8' : '7'}${text.slice(at + 1)}`
    const answer = await openRecoveryKey(wrong).then(
      () => null,
      (error: Error) => error,
    )
    if (answer === null) unnoticed++
    else expect(answer.message).not.toContain(text.slice(0, 4))
  }
  // each has a chance of 1 in 4096
  expect(unnoticed).toBeLessThan(3)
  for (const wrong of ['', text.slice(1), `${text}0`, text.replace(/.$/, '!')]) {
    const refused = await refusal(() => openRecoveryKey(wrong))
    expect(refused.code).toBe('usage')
    expect(refused.message).not.toContain(text.slice(0, 4))
  }
})
