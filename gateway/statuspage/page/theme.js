// The theme that was chosen here before, set before anything is drawn.
"use strict";
{
	const root = document.documentElement;
	let theme = "auto";
	try {
		theme = localStorage.getItem("theme") || "auto";
	} catch { /* not kept, then */ }
	root.dataset.theme = theme === "light" || theme === "dark" ? theme : "auto";
}
