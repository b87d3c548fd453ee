// The models that people can ask: the service's, each with the adapters that are served beside it.

import { json } from "./api.js";

/** An adapter is its model under another name; `adapterOf` names the model. */
export async function models(ask) {
  const told = await ask("models");
  const { data } = await json("v1/models");
  return told.models.flatMap((model) => [
    model,
    ...data.filter((one) => one.parent === model.id).map((one) => ({ ...model, id: one.id, adapterOf: model.id })),
  ]);
}
