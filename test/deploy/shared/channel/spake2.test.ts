/** SPAKE2 against the vectors of RFC 9382, and against peers that send what is no share. */
import { randomBytes } from 'node:crypto'
import { p256 } from '@noble/curves/nist.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { expect, test } from 'vitest'
import { type Agreed, agree, codeScalar, makeShare, type Side } from '../../../../deploy/shared/channel/spake2.ts'

const hex = (text: string) => Buffer.from(text, 'hex')
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** RFC 9382, appendix B: SPAKE2-P256-SHA256-HKDF-HMAC, without AAD. */
const VECTORS = [
  {
    a: 'server',
    b: 'client',
    w: '2ee57912099d31560b3a44b1184b9b4866e904c49d12ac5042c97dca461b1a5f',
    x: '43dd0fd7215bdcb482879fca3220c6a968e66d70b1356cac18bb26c84a78d729',
    shareA:
      '04a56fa807caaa53a4d28dbb9853b9815c61a411118a6fe516a8798434751470f9010153ac33d0d5f2047ffdb1a3e42c9b4e6be662766e1eeb4116988ede5f912c',
    y: 'dcb60106f276b02606d8ef0a328c02e4b629f84f89786af5befb0bc75b6e66be',
    shareB:
      '0406557e482bd03097ad0cbaa5df82115460d951e3451962f1eaf4367a420676d09857ccbc522686c83d1852abfa8ed6e4a1155cf8f1543ceca528afb591a1e0b7',
    key: '0e0672dc86f8e45565d338b0540abe69',
    confirmA: '58ad4aa88e0b60d5061eb6b5dd93e80d9c4f00d127c65b3b35b1b5281fee38f0',
    confirmB: 'd3e2e547f1ae04f2dbdbf0fc4b79f8ecff2dff314b5d32fe9fcef2fb26dc459b',
  },
  {
    a: '',
    b: 'client',
    w: '0548d8729f730589e579b0475a582c1608138ddf7054b73b5381c7e883e2efae',
    x: '403abbe3b1b4b9ba17e3032849759d723939a27a27b9d921c500edde18ed654b',
    shareA:
      '04a897b769e681c62ac1c2357319a3d363f610839c4477720d24cbe32f5fd85f44fb92ba966578c1b712be6962498834078262caa5b441ecfa9d4a9485720e918a',
    y: '903023b6598908936ea7c929bd761af6039577a9c3f9581064187c3049d87065',
    shareB:
      '04e0f816fd1c35e22065d5556215c097e799390d16661c386e0ecc84593974a61b881a8c82327687d0501862970c64565560cb5671f696048050ca66ca5f8cc7fc',
    key: '642f05c473c2cd79909f9a841e2f30a7',
    confirmA: '47d29e6666af1b7dd450d571233085d7a9866e4d49d2645e2df975489521232b',
    confirmB: '3313c5cefc361d27fb16847a91c2a73b766ffa90a4839122a9b70a2f6bd1d6df',
  },
  {
    a: 'server',
    b: '',
    w: '626e0cdc7b14c9db3e52a0b1b3a768c98e37852d5db30febe0497b14eae8c254',
    x: '07adb3db6bc623d3399726bfdbfd3d15a58ea776ab8a308b00392621291f9633',
    shareA:
      '04f88fb71c99bfffaea370966b7eb99cd4be0ff1a7d335caac4211c4afd855e2e15a873b298503ad8ba1d9cbb9a392d2ba309b48bfd7879aefd0f2cea6009763b0',
    y: 'b6a4fc8dbb629d4ba51d6f91ed1532cf87adec98f25dd153a75accafafedec16',
    shareB:
      '040c269d6be017dccb15182ac6bfcd9e2a14de019dd587eaf4bdfd353f031101e7cca177f8eb362a6e83e7d5e729c0732e1b528879c086f39ba0f31a9661bd34db',
    key: '005184ff460da2ce59062c87733c299c',
    confirmA: 'bc9f9bbe99f26d0b2260e6456e05a86196a3307ec6663a18bf6ac825736533b2',
    confirmB: 'c2370e1bf813b086dff0d834e74425a06e6390f48f5411900276dcccc5a297ec',
  },
  {
    a: '',
    b: '',
    w: '7bf46c454b4c1b25799527d896508afd5fc62ef4ec59db1efb49113063d70cca',
    x: '8cef65df64bb2d0f83540c53632de911b5b24b3eab6cc74a97609fd659e95473',
    shareA:
      '04a65b367a3f613cf9f0654b1b28a1e3a8a40387956c8ba6063e8658563890f46ca1ef6a676598889fc28de2950ab8120b79a5ef1ea4c9f44bc98f585634b46d66',
    y: 'd7a66f64074a84652d8d623a92e20c9675c61cb5b4f6a0063e4648a2fdc02d53',
    shareB:
      '04589f13218822710d98d8b2123a079041052d9941b9cf88c6617ddb2fcc0494662eea8ba6b64692dc318250030c6af045cb738bc81ba35b043c3dcb46adf6f58d',
    key: 'fc6374762ba5cf11f4b2caa08b2cd1b9',
    confirmA: 'dfb4db8d48ae5a675963ea5e6c19d98d4ea028d8e898dad96ea19a80ade95dca',
    confirmB: 'd0f0609d1613138d354f7e95f19fb556bf52d751947241e8c7118df5ef0ae175',
  },
]

test('CHANNEL 9.6: the vectors of RFC 9382, appendix B, are met by both sides', () => {
  for (const { a, b, w, x, y, shareA, shareB, ...expected } of VECTORS) {
    const scalar = BigInt(`0x${w}`)
    const shares = {
      A: makeShare('A', scalar, BigInt(`0x${x}`)),
      B: makeShare('B', scalar, BigInt(`0x${y}`)),
    }
    expect([toHex(shares.A.bytes), toHex(shares.B.bytes)]).toEqual([shareA, shareB])
    for (const side of ['A', 'B'] as const) {
      const agreed = agree({
        side,
        w: scalar,
        own: shares[side],
        theirs: hex(side === 'A' ? shareB : shareA),
        idA: Buffer.from(a),
        idB: Buffer.from(b),
        aad: Buffer.alloc(0),
      })
      const found = [agreed.key, agreed.confirmA, agreed.confirmB].map(toHex)
      expect(found, `${side} of ${a}, ${b}`).toEqual([expected.key, expected.confirmA, expected.confirmB])
    }
  }
})

/** The prime of P-256. */
const FIELD = p256.Point.Fp.ORDER
const wide = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, '0'), 'hex')

interface End {
  code?: string
  idA?: string
  idB?: string
  aad?: string
}

/** What each end computes when the two differ in something. */
function run(first: End, second: End): Record<Side, Agreed> {
  const scalars = [first, second].map(({ code = '12345678' }) => codeScalar(code, 'test'))
  const [wA = 0n, wB = 0n] = scalars
  const [a, b] = [makeShare('A', wA), makeShare('B', wB)]
  const about = ({ idA = 'ann', idB = 'arm', aad = 'hash' }: End) => ({
    idA: Buffer.from(idA),
    idB: Buffer.from(idB),
    aad: Buffer.from(aad),
  })
  return {
    A: agree({ side: 'A', w: wA, own: a, theirs: b.bytes, ...about(first) }),
    B: agree({ side: 'B', w: wB, own: b, theirs: a.bytes, ...about(second) }),
  }
}

test('CHANNEL 9.6: the confirmations fit only with the same code, the same identities and the same handshake', () => {
  const same = run({}, {})
  expect(same.A).toEqual(same.B)
  expect(same.A.confirmA).not.toEqual(same.A.confirmB)
  const others: End[] = [{ code: '12345679' }, { idA: 'eve' }, { idB: 'other' }, { aad: 'another hash' }]
  for (const other of others) {
    const { A, B } = run({}, other)
    expect(Buffer.compare(A.confirmA, B.confirmA), JSON.stringify(other)).not.toBe(0)
    expect(Buffer.compare(A.confirmB, B.confirmB), JSON.stringify(other)).not.toBe(0)
  }
  // the lengths are part of the transcript, so a byte cannot move from one identity to the other
  const moved = run({ idA: 'anna', idB: 'rm' }, { idA: 'ann', idB: 'arm' })
  expect(Buffer.compare(moved.A.confirmA, moved.B.confirmA)).not.toBe(0)
})

test('CHANNEL 9.6: a share that is no point of the curve, or of another curve, is refused, and so is one that hides nothing', () => {
  const w = codeScalar('12345678', 'test')
  const own = makeShare('B', w)
  const good = makeShare('A', w).bytes
  const bent = Buffer.from(good)
  bent[40] = (bent[40] ?? 0) ^ 1
  // w times M, without a secret point beside it: the agreed point is the one at infinity
  const one = p256.Point.fromBytes(makeShare('A', w, 1n).bytes)
  const hidesNothing = one.subtract(p256.Point.BASE).toBytes(false)
  const small = p256.Point.fromBytes(Buffer.concat([Buffer.of(2), wide(5n)])).toAffine()
  const shares: Uint8Array[] = [
    bent,
    hidesNothing,
    Buffer.alloc(65),
    Buffer.concat([Buffer.of(4), Buffer.alloc(64)]),
    Buffer.concat([Buffer.of(4), Buffer.alloc(64, 0xff)]),
    good.subarray(0, 64),
    Buffer.concat([good, Buffer.of(0)]),
    Buffer.concat([Buffer.of(2), good.subarray(1, 33)]),
    Buffer.of(0),
    new Uint8Array(0),
    randomBytes(65),
    // the hybrid form of SEC 1, a coordinate beside its remainder, a point of secp256k1, and of y^2 = x^3 - 3x (order 2 at 0)
    Buffer.concat([Buffer.of(6 + ((good[64] ?? 0) & 1)), good.subarray(1)]),
    Buffer.concat([Buffer.of(4), wide(FIELD + 5n), wide(small.y)]),
    secp256k1.Point.BASE.toBytes(false),
    Buffer.concat([Buffer.of(4), wide(0n), wide(0n)]),
  ]
  const about = { w, own, idA: hex(''), idB: hex(''), aad: hex('') }
  for (const theirs of shares) expect(() => agree({ side: 'B', ...about, theirs })).toThrow()
  expect(() => agree({ side: 'B', ...about, theirs: good })).not.toThrow()
})

test('each share has a secret of its own', () => {
  const w = codeScalar('00000000', 'test')
  expect(makeShare('A', w).bytes).not.toEqual(makeShare('A', w).bytes)
  expect(codeScalar('00000000', 'test')).not.toBe(codeScalar('00000000', 'other'))
})
