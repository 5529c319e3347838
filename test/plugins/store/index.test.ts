import t from 'tap'
import { MemoryStore, openStore, type StoreOption } from '../../../plugins/store/index.js'

t.test('opens what was chosen', async (t) => {
  for (const option of [undefined, 'memory', { memory: {} }, { memory: { retention: { maxEvents: 2 } } }] as const) {
    const { store, created } = await openStore(option)
    t.ok(store instanceof MemoryStore)
    t.equal(created, true, 'and is ours to close')
    await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
    for (let i = 0; i < 3; i++) await store.append('t1', ['{"v":1}'])
    t.equal((await store.read('t1', 0)).first, typeof option === 'object' && 'retention' in option.memory ? 2 : 1)
    await store.close()
  }
})

t.test('a store of your own stays yours', async (t) => {
  const own = new MemoryStore()
  const { store, created } = await openStore(own)
  t.equal(store, own)
  t.equal(created, false)
})

t.test('says what it expected', async (t) => {
  for (const option of [null, 'sqlite', {}, 5, true, () => {}]) {
    await t.rejects(openStore(option as unknown as StoreOption), { code: 'FAE_ERR_OPTION_INVALID', message: /'store' is invalid: expected/ })
  }
})
