import { functionCases } from './function.cases.js';
import { cases, makers, misplaced, statements, unnamed } from './statement-cases.js';

it('explains every statement of the source', () => {
  expect(misplaced).toEqual([]);
  expect([...makers.keys()]).toEqual(['purgeStatement']);
  const missing = statements.map(({ name }) => name).filter((name) => !(name in cases));
  expect(missing).toEqual([]);
  expect(Object.keys(cases).filter((name) => !statements.some((statement) => statement.name === name))).toEqual([]);
});

it('knows every function that sends a statement without a name', () => {
  expect([...unnamed.keys()].sort()).toEqual(Object.keys(functionCases).sort());
});

const placeholders = statements.flatMap(({ name, text }) =>
  [cases[name] ?? []].flat().map(({ values }) => {
    const wanted = Math.max(0, ...Array.from(text.matchAll(/\$(\d+)/g), ([, n]) => Number(n)));
    return { name, wanted, given: values.length };
  }),
);

it('gives as many values as a statement takes', () => {
  expect(placeholders.filter(({ wanted, given }) => wanted !== given)).toEqual([]);
});
