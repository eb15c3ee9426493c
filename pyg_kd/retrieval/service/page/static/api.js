// Requests to the service. Ids travel in bodies, not in addresses, which servers tend to log.

export class Problem extends Error {}

let token = "";

async function tokenFromUser() {
  const dialog = document.querySelector("#token");
  const secret = dialog.querySelector("input");
  secret.value = "";
  if (!dialog.open) dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  token = secret.value;
  return token !== "";
}

async function send(path, body, signal) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  const method = body === undefined ? "GET" : "POST";
  return fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
}

async function messageOf(response) {
  try {
    const { error } = await response.json();
    return error.charAt(0).toUpperCase() + error.slice(1) + (error.endsWith(".") ? "" : ".");
  } catch {
    return `The service answered with status ${response.status}.`;
  }
}

export async function ask(path, body, signal) {
  let response;
  try {
    response = await send(path, body, signal);
    while (response.status === 401 && (await tokenFromUser())) response = await send(path, body, signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service can't be reached.");
  }
  if (!response.ok) throw new Problem(await messageOf(response));
  return response.json();
}
