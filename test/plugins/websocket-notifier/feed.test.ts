import t from 'tap'
import type { Page } from '../../../plugins/store/index.js'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import { Feed, type FeedReader } from '../../../plugins/websocket-notifier/feed.js'
import { Feeds } from '../../../plugins/websocket-notifier/feeds.js'
import { newEpoch } from '../../../schemas/index.js'
import { wrapStore } from '../../support/delivery.js'
import { thread } from '../../support/store-steps.js'

t.test('a page read across a gap counts when its history is the newest, and never takes the place of a newer one', async (t) => {
  const answers: Array<() => void> = []
  let later: Page['epochs'] = []
  const { store, inner } = wrapStore({
    // As a store that fails over meanwhile: the answer waits, and a new history may have begun.
    async read (threadId, seq, limit) {
      const begun = later
      const page = await inner.read(threadId, seq, limit)
      await new Promise<void>((resolve) => { answers.push(resolve) })
      return { ...page, epochs: [...page.epochs, ...begun] }
    }
  })
  await inner.putThread(thread('t1'))
  const feed = new Feed(store, 't1', () => {})
  await feed.ready()
  const read = (): ReturnType<Feed['read']> => feed.read(0)
  const answer = async (index: number): Promise<void> => {
    while (answers[index] === undefined) await new Promise((resolve) => { setImmediate(resolve) })
    answers[index]()
  }

  const first = read()
  await answer(0)
  const [before] = (await first).epochs
  const old = read()
  feed.gap()
  later = [{ epoch: newEpoch(before!.epoch), from: 1 }]
  const fresh = read()
  feed.gap()
  await answer(2)
  t.strictSame((await fresh).epochs, [before, ...later])
  t.strictSame(feed.epochs, [before, ...later], 'whoever is shown it may acknowledge it')
  await answer(1)
  t.strictSame((await old).epochs, [before])
  t.strictSame(feed.epochs, [before, ...later], 'overtaken')
  feed.close()
})

t.test('whoever still reads a deleted thread keeps nobody from the one that takes its place', async (t) => {
  const store = new MemoryStore()
  t.teardown(() => store.close())
  const feeds = new Feeds(store, (feed) => { setImmediate(() => { feed.flush() }) })
  const join = async (): Promise<FeedReader & { feed: Feed, received: number }> => {
    const reader = feeds.join('t1', (feed) => ({ feed, received: 0, onBatch ({ entries }) { this.received += entries.length }, onGap () {}, onDeleted () {} } as FeedReader & { feed: Feed, received: number }))
    await reader.feed.ready()
    return reader
  }
  await store.putThread(thread('t1'))
  const late = await join()
  await store.deleteThread('t1')
  await store.putThread(thread('t1'))
  const early = await join()
  await store.append('t1', ['{"v":1}'])
  while (early.received === 0) await new Promise((resolve) => { setImmediate(resolve) })
  t.equal(early.received, 1)
  feeds.leave(late.feed, late)
  t.ok(feeds.isWatched('t1'), 'the last one of the old leaves the new alone')
  feeds.leave(early.feed, early)
  t.equal(feeds.size, 0)
})
