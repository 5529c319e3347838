import { test } from 'tap'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { folder, projectDocuments, readDocuments } from '../../server/agents/triage/documents.js'
import { bestPassage, SearchIndex } from '../../server/agents/triage/search-index.js'
import { blocksOf, sectionsOf } from '../../server/agents/triage/sections.js'
import { answerFrom, answerFromNothing, inPieces, worthReading } from '../../server/agents/triage/answer.js'

const guide = `---
title: not a heading
---
Before everything.

# Guide

Welcome to the guide.

## Resuming

After a reconnect, subscribe with your cursor:

\`\`\`sh
# not a heading
subscribe --cursor c
\`\`\`

Nothing is lost.

## Billing

Invoices are sent monthly.

## Billing

Refunds take a week.
`

test('a document is cut at its headings, not at comments in code', async (t) => {
  t.strictSame(sectionsOf('guide.md', guide).map(({ heading }) => heading), [
    'guide.md', 'Guide', 'Guide > Resuming', 'Guide > Billing', 'Guide > Billing (2)'
  ])
  const resuming = sectionsOf('guide.md', guide)[2]!
  t.match(resuming.text, /# not a heading\nsubscribe --cursor c/)
  t.strictSame(sectionsOf('empty.md', '# Title only\n'), [], 'a heading without text is no section')
  t.strictSame(sectionsOf('skip.md', '### Deep\n\ntext\n\n# Top\n\ntext').map(({ heading }) => heading), ['Deep', 'Top'])
})

test('blocks keep code whole', async (t) => {
  t.strictSame(blocksOf('one\ntwo\n\n~~~~js\na\n\n~~~\nb\n~~~~\nthree\n\n\nfour'), ['one\ntwo', '~~~~js\na\n\n~~~\nb\n~~~~', 'three', 'four'])
  t.strictSame(blocksOf('```\nnever closed\n\nstill code'), ['```\nnever closed\n\nstill code'])
})

test('a question finds the section that answers it', async (t) => {
  const index = new SearchIndex([{ path: 'guide.md', markdown: guide }])
  t.equal(index.size, 5)
  t.strictSame(index.topics, ['guide.md', 'Guide'])
  t.equal(index.search('How do I resume after I was reconnected?', 5)[0]?.heading, 'Guide > Resuming', 'other endings of a word match')
  t.equal(index.search('refnds', 5)[0]?.heading, 'Guide > Billing (2)', 'a slip of the pen matches')
  t.equal(index.search('billing', 1).length, 1, 'limit holds')
  t.match(index.search('refund', 1)[0], { path: 'guide.md', snippet: 'Refunds take a week.', score: Number })
  t.strictSame(index.search('how do I do this?', 5), [], 'words without meaning match nothing')
  t.strictSame(index.search('zxqv', 5), [])
})

test('only what is in the index can be read', async (t) => {
  const index = new SearchIndex([{ path: 'guide.md', markdown: guide }])
  t.equal(index.read('guide.md', 'Guide > Billing'), 'Invoices are sent monthly.')
  t.equal(index.read('guide.md', 'Nowhere'), undefined)
  t.equal(index.read('../../../etc/passwd', '../../../etc/passwd'), undefined)
  t.equal(index.read('/etc/passwd', ''), undefined)
})

test('a long passage becomes a snippet that ends between words', async (t) => {
  const index = new SearchIndex([{ path: 'long.md', markdown: '# Long\n\n' + 'walrus word '.repeat(50) }])
  const snippet = index.search('walrus', 1)[0]!.snippet
  t.ok(snippet.length <= 162)
  t.match(snippet, /(walrus|word) …$/)
})

test('the best passage brings along what belongs to it', async (t) => {
  const resuming = sectionsOf('guide.md', guide)[2]!.text
  t.match(bestPassage(resuming, 'reconnect'), /^After a reconnect.*:\n\n```sh[^]*```$/, 'an example follows its lead-in')
  t.match(bestPassage(resuming, 'comment heading'), /^After a reconnect/, 'and the lead-in precedes its example')
  t.equal(bestPassage(resuming, 'nothing lost'), 'Nothing is lost.')
  t.match(bestPassage(resuming, 'zxqv'), /^After a reconnect/, 'the first when none matches')
  t.equal(bestPassage('', 'x'), '')
})

test('an answer names its sources', async (t) => {
  const answer = answerFrom([{ path: 'guide.md', heading: 'Guide > Billing', text: 'Invoices are sent monthly.' }], 'invoices')
  t.equal(answer, '**Guide > Billing**\n\nInvoices are sent monthly.\n\nSources:\n- guide.md: Guide > Billing')
  t.match(answerFromNothing('zxqv', ['Guide', 'Events']), /nothing about “zxqv”.*Guide, Events\.$/)
  t.match(answerFromNothing('zxqv', Array.from({ length: 14 }, (_, index) => `T${index}`)), /T11, and 2 more\.$/)
  t.match(answerFromNothing('zxqv', []), /--docs/)
  const hits = [10, 9, 8, 7, 1].map((score) => ({ path: 'p', heading: 'h', score, snippet: '' }))
  t.equal(worthReading(hits).length, 3)
  t.equal(worthReading([hits[0]!, hits[4]!]).length, 1, 'a much worse hit is not read')
  t.strictSame(worthReading([]), [])
})

test('pieces join to the same text and stop when the run is cancelled', async (t) => {
  const text = '  Two words,\n\nand a_very_long_word_without_any_space_in_it, and an end.'
  const pieces: string[] = []
  for await (const piece of inPieces(text, 0, new AbortController().signal)) pieces.push(piece)
  t.equal(pieces.length, 2)
  t.equal(pieces.join(''), text)
  const cancel = new AbortController()
  await t.rejects(async () => { for await (const piece of inPieces(text, 1000, cancel.signal)) cancel.abort(piece) }, { name: 'AbortError' })
})

test('a folder is read with its subfolders, without what is hidden, linked or no Markdown', async (t) => {
  const root = t.testdir({
    docs: { 'b.md': '# B\n\nb', 'a.md': '# A\n\na', 'c.txt': 'no', '.hidden.md': 'no', deep: { 'd.md': 'd' }, node_modules: { 'e.md': 'no' } },
    'secret.md': 'secret'
  })
  await symlink(join(root, 'secret.md'), join(root, 'docs', 'link.md'))
  const { documents, problems } = await readDocuments(folder(join(root, 'docs')))
  t.strictSame(documents.map(({ path }) => path), ['a.md', 'b.md', 'deep/d.md'])
  t.strictSame(problems, [])
})

test('what cannot be read, or is too much, is left out and said', async (t) => {
  const root = t.testdir({ 'a.md': 'x'.repeat(10), 'b.md': 'x'.repeat(200), 'c.md': 'x'.repeat(90), 'd.md': 'x'.repeat(90) })
  const sizes = await readDocuments(folder(root), { files: 10, fileBytes: 100, totalBytes: 150 })
  t.strictSame(sizes.documents.map(({ path }) => path), ['a.md', 'c.md'])
  t.match(sizes.problems, [/^b\.md is left out: it has 200 bytes/, /^d\.md and what follows/])
  const many = await readDocuments(folder(root), { files: 2, fileBytes: 100, totalBytes: 1000 })
  t.match(many.problems[0], /more than 2 files/)
  const absent = await readDocuments(folder(join(root, 'absent')))
  t.strictSame(absent.documents, [])
  t.match(absent.problems, [/absent does not exist$/])
  await mkdir(join(root, 'fine'))
  await writeFile(join(root, 'fine', 'n.md'), 'n')
  const entries = await readDocuments({ root, entries: ['fine/n.md', 'fine/n.md/below'] })
  t.strictSame(entries.documents.map(({ path }) => path), ['fine/n.md'])
  t.match(entries.problems, [/cannot be read/])
})

test("this project's own documents answer how to resume", async (t) => {
  const source = projectDocuments()
  t.ok(source)
  const { documents, problems } = await readDocuments(source!)
  t.strictSame(problems, [])
  const [best] = new SearchIndex(documents).search('How do I resume after a reconnect?', 5)
  t.match(best, { path: 'docs/threads-and-cursors.md', heading: /resume after a reconnect/ })
})
